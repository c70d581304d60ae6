package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// requestTimeout bounds each request to etcd, on top of the caller's context.
const requestTimeout = 5 * time.Second

// Etcd is a Store in etcd v3.
type Etcd struct {
	client *clientv3.Client
	kind   string
	quota  int64
}

// EtcdConfig says where etcd is.
type EtcdConfig struct {
	Endpoints []string
	// TLS is for https endpoints; see LoadTLS.
	TLS *tls.Config
}

// LoadTLS reads the PEM files for an external etcd; empty names are left out.
func LoadTLS(caFile, certFile, keyFile string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("etcd's CA: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("etcd's CA: %s holds no PEM certificate", caFile)
		}
	}
	if certFile != "" {
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return nil, fmt.Errorf("etcd's client certificate: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// OpenEtcd connects to an etcd and waits until it answers or the context ends.
func OpenEtcd(ctx context.Context, c EtcdConfig) (*Etcd, error) {
	e, err := newEtcd(c, "etcd")
	if err != nil {
		return nil, err
	}
	if err := e.await(ctx); err != nil {
		e.Close()
		return nil, err
	}
	return e, nil
}

// newEtcd makes a client that connects when it is used.
func newEtcd(c EtcdConfig, kind string) (*Etcd, error) {
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            c.Endpoints,
		TLS:                  c.TLS,
		DialTimeout:          requestTimeout,
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 5 * time.Second,
		Logger:               zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: requestTimeout,
		})},
	})
	if err != nil {
		return nil, fmt.Errorf("etcd at %s: %w", strings.Join(c.Endpoints, ", "), err)
	}
	return &Etcd{client: client, kind: kind}, nil
}

// await returns when etcd answers.
func (e *Etcd) await(ctx context.Context) error {
	if _, err := e.client.Get(ctx, "/tulle/", clientv3.WithCountOnly()); err != nil {
		return fmt.Errorf("etcd at %s doesn't answer: %w", strings.Join(e.client.Endpoints(), ", "), say(err))
	}
	return nil
}

// say turns etcd's errors into the store's.
func say(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, rpctypes.ErrNoSpace):
		return fmt.Errorf("%w: etcd has reached its quota, nothing can be written until something is removed; reading goes on", ErrFull)
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return ErrLeaseEnded
	case errors.Is(err, rpctypes.ErrCompacted):
		return ErrCompacted
	}
	if strings.Contains(err.Error(), "no space left on device") {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	if s := status.Code(err); s == codes.Unavailable || s == codes.DeadlineExceeded || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

func itemOf(kv *mvccpb.KeyValue) Item {
	return Item{Key: string(kv.Key), Value: kv.Value, Revision: kv.ModRevision, Lease: Lease(kv.Lease)}
}

// Get implements Store.
func (e *Etcd) Get(ctx context.Context, key string) (Item, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	r, err := e.client.Get(ctx, key)
	if err != nil {
		return Item{}, say(err)
	}
	if len(r.Kvs) == 0 {
		return Item{}, ErrNotFound
	}
	return itemOf(r.Kvs[0]), nil
}

// List implements Store.
func (e *Etcd) List(ctx context.Context, prefix string) ([]Item, int64, error) {
	const page = 500
	var out []Item
	var revision int64
	key, end := prefix, clientv3.GetPrefixRangeEnd(prefix)
	for {
		ctx, cancel := context.WithTimeout(ctx, requestTimeout)
		r, err := e.client.Get(ctx, key, clientv3.WithRange(end), clientv3.WithLimit(page), clientv3.WithRev(revision))
		cancel()
		if err != nil {
			return nil, 0, say(err)
		}
		if revision == 0 {
			revision = r.Header.Revision
		}
		for _, kv := range r.Kvs {
			out = append(out, itemOf(kv))
		}
		if !r.More {
			return out, revision, nil
		}
		key = out[len(out)-1].Key + "\x00"
	}
}

// Put implements Store.
func (e *Etcd) Put(ctx context.Context, key string, value []byte, revision int64, lease Lease) (int64, error) {
	if err := checkPut(key, value); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	txn := e.client.Txn(ctx)
	if revision != AnyRevision {
		txn = txn.If(clientv3.Compare(clientv3.ModRevision(key), "=", revision))
	}
	r, err := txn.Then(clientv3.OpPut(key, string(value), clientv3.WithLease(clientv3.LeaseID(lease)))).Commit()
	if err != nil {
		return 0, say(err)
	}
	if !r.Succeeded {
		return 0, ErrConflict
	}
	return r.Header.Revision, nil
}

// Delete implements Store.
func (e *Etcd) Delete(ctx context.Context, key string, revision int64) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	txn := e.client.Txn(ctx)
	if revision != AnyRevision {
		txn = txn.If(clientv3.Compare(clientv3.ModRevision(key), "=", revision))
	}
	r, err := txn.Then(clientv3.OpDelete(key)).Else(clientv3.OpGet(key, clientv3.WithCountOnly())).Commit()
	if err != nil {
		return 0, say(err)
	}
	if !r.Succeeded {
		if r.Responses[0].GetResponseRange().Count == 0 {
			return 0, ErrNotFound
		}
		return 0, ErrConflict
	}
	if r.Responses[0].GetResponseDeleteRange().Deleted == 0 {
		return 0, ErrNotFound
	}
	return r.Header.Revision, nil
}

// Watch implements Store.
func (e *Etcd) Watch(ctx context.Context, prefix string, after int64) <-chan Changes {
	out := make(chan Changes)
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	in := e.client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(after+1))
	go func() {
		defer close(out)
		defer cancel()
		for r := range in {
			c := Changes{Err: say(r.Err())}
			for _, ev := range r.Events {
				c.Events = append(c.Events, Event{Item: itemOf(ev.Kv), Deleted: ev.Type == clientv3.EventTypeDelete})
				c.Revision = ev.Kv.ModRevision
			}
			if c.Err == nil && len(c.Events) == 0 {
				continue
			}
			select {
			case out <- c:
			case <-ctx.Done():
				return
			}
			if c.Err != nil {
				return
			}
		}
	}()
	return out
}

// Grant implements Store.
func (e *Etcd) Grant(ctx context.Context, ttl time.Duration) (Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	r, err := e.client.Grant(ctx, max(1, int64((ttl+time.Second-1)/time.Second)))
	if err != nil {
		return 0, say(err)
	}
	return Lease(r.ID), nil
}

// Renew implements Store.
func (e *Etcd) Renew(ctx context.Context, l Lease) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := e.client.KeepAliveOnce(ctx, clientv3.LeaseID(l))
	return say(err)
}

// Revoke implements Store.
func (e *Etcd) Revoke(ctx context.Context, l Lease) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := e.client.Revoke(ctx, clientv3.LeaseID(l))
	return say(err)
}

// Status implements Store.
func (e *Etcd) Status(ctx context.Context) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	r, err := e.client.Status(ctx, e.client.Endpoints()[0])
	if err != nil {
		return Status{Kind: e.kind}, say(err)
	}
	s := Status{Kind: e.kind, Revision: r.Header.Revision, Bytes: r.DbSizeInUse, Quota: e.quota}
	if r.DbSizeQuota > 0 {
		s.Quota = r.DbSizeQuota
	}
	for _, problem := range r.Errors {
		if strings.Contains(problem, "NOSPACE") {
			return s, fmt.Errorf("%w: etcd has reached its quota of %d MiB", ErrFull, s.Quota>>20)
		}
	}
	return s, nil
}

// Close implements Store.
func (e *Etcd) Close() error { return e.client.Close() }
