package signer

import (
	"bufio"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"tulle.dev/tulle/internal/peer"
)

const (
	// DefaultRate is how many signatures a second are made at most; burst times as
	// many at once.
	DefaultRate = 500
	burst       = 4
	maxConns    = 16
	// idle bounds how long a connection may be without a request.
	idle = 5 * time.Minute
	// writeTimeout bounds sending an answer.
	writeTimeout = 5 * time.Second
)

// Key is a key that the server has.
type Key struct {
	Name string
	crypto.Signer
}

// Config says what a server works with.
type Config struct {
	// Keys are safe for concurrent use.
	Keys []Key
	// UID is the user whose processes may ask; root may as well.
	UID uint32
	// Rate is signatures a second; 0 is DefaultRate.
	Rate int
	Log  *slog.Logger
}

type server struct {
	config Config
	byID   map[string]Key
	list   []keyDoc
	limit  *rate.Limiter
	slots  chan struct{}
}

// Listen makes the socket, of mode 0600 and a user's. One that is there is taken
// away when nobody answers at it.
func Listen(path string, uid uint32) (net.Listener, error) {
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("at %s somebody listens already: is another signer running?", path)
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != os.ModeSocket {
			return nil, fmt.Errorf("%s is there and no socket: choose another path", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("remove the old socket: %w", err)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	err = os.Chmod(path, 0o600)
	if err == nil && uid != uint32(os.Getuid()) {
		err = os.Chown(path, int(uid), -1)
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("the socket %s: %w", path, err)
	}
	return l, nil
}

// Serve answers until the context ends; then it closes all connections and waits
// for them.
func Serve(ctx context.Context, l net.Listener, c Config) error {
	s := &server{config: c, byID: map[string]Key{}, slots: make(chan struct{}, maxConns)}
	if len(c.Keys) == 0 || len(c.Keys) > maxKeys {
		return fmt.Errorf("%d keys: want 1 to %d", len(c.Keys), maxKeys)
	}
	for _, k := range c.Keys {
		der, err := x509.MarshalPKIXPublicKey(k.Public())
		if err != nil {
			return fmt.Errorf("key %s: %w", k.Name, err)
		}
		id, _ := KeyID(k.Public())
		s.byID[id] = k
		s.list = append(s.list, keyDoc{Name: k.Name, Public: der})
	}
	r := c.Rate
	if r == 0 {
		r = DefaultRate
	}
	s.limit = rate.NewLimiter(rate.Limit(r), r*burst)
	var all sync.WaitGroup
	defer all.Wait()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return nil
		}
		if err != nil {
			return err
		}
		uid, ok := peer.UID(conn)
		if !ok || !c.allows(uid) {
			c.Log.Warn("a process of another user was sent away", "uid", uid)
			conn.Close()
			continue
		}
		select {
		case s.slots <- struct{}{}:
		default:
			c.Log.Warn("too many connections", "most", maxConns)
			conn.Close()
			continue
		}
		all.Go(func() {
			defer func() { <-s.slots }()
			end := context.AfterFunc(ctx, func() { conn.Close() })
			defer end()
			defer conn.Close()
			s.converse(conn, uid)
		})
	}
}

// converse answers one connection. What can't be understood ends it.
func (s *server) converse(conn net.Conn, uid uint32) {
	in := bufio.NewReaderSize(conn, maxRequest)
	for {
		conn.SetReadDeadline(time.Now().Add(idle))
		var q request
		if err := line(in, &q); err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !errors.Is(err, os.ErrDeadlineExceeded) {
				s.config.Log.Warn("a request can't be read", "uid", uid, "error", err)
			}
			return
		}
		out, err := json.Marshal(s.answer(&q, uid))
		if err != nil {
			return
		}
		conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := conn.Write(append(out, '\n')); err != nil {
			return
		}
	}
}

func (s *server) answer(q *request, uid uint32) *answer {
	switch q.Op {
	case opList:
		return &answer{Keys: s.list}
	case opSign:
	default:
		return &answer{Error: fmt.Sprintf("op %q: want %s or %s", q.Op, opList, opSign)}
	}
	k, ok := s.byID[q.Key]
	if !ok {
		return &answer{Error: "no such key: its public key has another SHA-256 sum"}
	}
	h, err := q.check()
	if err != nil {
		return &answer{Error: err.Error()}
	}
	if !s.limit.Allow() {
		s.config.Log.Warn("too many signatures are asked for", "key", k.Name, "uid", uid)
		return &answer{Error: "more signatures are asked for than this signer makes in a second", Again: true}
	}
	signature, err := k.Sign(rand.Reader, q.Digest, h)
	if err != nil {
		s.config.Log.Error("can't sign", "key", k.Name, "error", err)
		return &answer{Error: err.Error(), Again: true}
	}
	s.config.Log.Info("signed", "key", k.Name, "uid", uid, "hash", q.Hash, "digest", hex.EncodeToString(q.Digest[:min(len(q.Digest), 32)]))
	return &answer{Signature: signature}
}

// allows says whether a user's processes may ask.
func (c *Config) allows(uid uint32) bool { return uid == c.UID || uid == 0 }
