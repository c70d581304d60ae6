package signer

import (
	"bufio"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

const (
	// signTime bounds one question, dialling included.
	signTime = 5 * time.Second
	// maxAsking is how many questions are under way at once, each on a connection;
	// connections are kept for the next.
	maxAsking = 4
)

// ErrUnavailable says that the signer can't be asked now, or says itself that it
// can't answer now: another try may help.
var ErrUnavailable = errors.New("the CA's signer is unavailable")

// Client asks a signer. Safe for concurrent use; it starts nothing.
type Client struct {
	path  string
	idle  chan net.Conn
	slots chan struct{}
}

// NewClient is for a signer's Unix socket, which isn't looked at yet.
func NewClient(path string) *Client {
	return &Client{path: path, idle: make(chan net.Conn, maxAsking), slots: make(chan struct{}, maxAsking)}
}

// Close closes the connections that are kept.
func (c *Client) Close() {
	for {
		select {
		case conn := <-c.idle:
			conn.Close()
		default:
			return
		}
	}
}

// ask asks a question once, and once more on a new connection when a kept one had
// ended in the meantime.
func (c *Client) ask(ctx context.Context, q *request) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, signTime)
	defer cancel()
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: others wait for it already", ErrUnavailable)
	}
	var conn net.Conn
	select {
	case conn = <-c.idle:
		if a, err := c.on(ctx, conn, q); err == nil {
			return c.judged(a)
		}
		c.Close() // the others are as old
	default:
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	a, err := c.on(ctx, conn, q)
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("it closed the connection: is this user the one whom it serves?")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: at %s: %w", ErrUnavailable, c.path, err)
	}
	return c.judged(a)
}

func (c *Client) judged(a *answer) (*answer, error) {
	switch {
	case a.Error != "" && a.Again:
		return nil, fmt.Errorf("%w: it says: %s", ErrUnavailable, a.Error)
	case a.Error != "":
		return nil, fmt.Errorf("the CA's signer refuses: %s", a.Error)
	}
	return a, nil
}

// on asks over a connection, and keeps it for the next when that went well.
func (c *Client) on(ctx context.Context, conn net.Conn, q *request) (*answer, error) {
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	data, err := json.Marshal(q)
	if err == nil {
		_, err = conn.Write(append(data, '\n'))
	}
	a := new(answer)
	if err == nil {
		err = line(bufio.NewReaderSize(conn, maxAnswer), a)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	select {
	case c.idle <- conn:
	default:
		conn.Close()
	}
	return a, nil
}

// Public is a key that a signer has.
type Public struct {
	Name string
	Key  crypto.PublicKey
}

// Keys lists what the signer has.
func (c *Client) Keys(ctx context.Context) ([]Public, error) {
	a, err := c.ask(ctx, &request{Op: opList})
	if err != nil {
		return nil, err
	}
	if len(a.Keys) > maxKeys {
		return nil, fmt.Errorf("the CA's signer lists %d keys, want at most %d", len(a.Keys), maxKeys)
	}
	var out []Public
	for _, k := range a.Keys {
		public, err := x509.ParsePKIXPublicKey(k.Public)
		if err != nil {
			return nil, fmt.Errorf("the CA's signer's key %q: %w", k.Name, err)
		}
		out = append(out, Public{k.Name, public})
	}
	return out, nil
}

// Has says whether the signer answers and has a key.
func (c *Client) Has(ctx context.Context, public crypto.PublicKey) error {
	keys, err := c.Keys(ctx)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if p, ok := k.Key.(interface{ Equal(crypto.PublicKey) bool }); ok && p.Equal(public) {
			return nil
		}
	}
	return fmt.Errorf("the CA's signer has %d keys, and none is the certificate's", len(keys))
}

// Key makes a crypto.Signer of a key that the signer has, or will have: it isn't
// asked yet.
func (c *Client) Key(public crypto.PublicKey) (crypto.Signer, error) {
	id, err := KeyID(public)
	if err != nil {
		return nil, err
	}
	return &remote{c, id, public}, nil
}

type remote struct {
	client *Client
	id     string
	public crypto.PublicKey
}

// Public implements crypto.Signer.
func (r *remote) Public() crypto.PublicKey { return r.public }

// Sign implements crypto.Signer.
func (r *remote) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if _, pss := opts.(*rsa.PSSOptions); pss {
		return nil, errors.New("the CA's signer makes no RSA-PSS signatures")
	}
	q := &request{Op: opSign, Key: r.id, Digest: digest}
	if h := opts.HashFunc(); h != 0 {
		q.Hash = h.String()
	}
	if _, err := q.check(); err != nil {
		return nil, err
	}
	a, err := r.client.ask(context.Background(), q)
	if err != nil {
		return nil, err
	}
	return a.Signature, nil
}
