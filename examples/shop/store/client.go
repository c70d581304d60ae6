package store

import (
	"bufio"
	"context"
	"errors"
	"net"
	"time"
)

// Client speaks to a store. Any goroutine may call it; each call uses a
// connection of its own from a small pool.
type Client struct {
	address string
	idle    chan *conn
}

// maxIdle bounds the pool.
const maxIdle = 8

// opTimeout bounds one command, dialling included, when the context has no
// earlier deadline.
const opTimeout = 2 * time.Second

type conn struct {
	net.Conn
	r *bufio.Reader
	w *bufio.Writer
}

// Dial returns a client for the store at address. It connects when needed.
func Dial(address string) *Client {
	return &Client{address: address, idle: make(chan *conn, maxIdle)}
}

// Add adds by to the field of the hash at key and returns its new value.
func (c *Client) Add(ctx context.Context, key, field string, by string) (string, error) {
	r, err := c.do(ctx, "HINCRBY", key, field, by)
	return r.text, err
}

// All returns the fields of the hash at key.
func (c *Client) All(ctx context.Context, key string) (map[string]string, error) {
	r, err := c.do(ctx, "HGETALL", key)
	if err != nil {
		return nil, err
	}
	if len(r.list)%2 != 0 {
		return nil, errors.New("store: HGETALL answered a field without a value")
	}
	m := make(map[string]string, len(r.list)/2)
	for i := 0; i < len(r.list); i += 2 {
		m[r.list[i]] = r.list[i+1]
	}
	return m, nil
}

// Remove removes the field from the hash at key.
func (c *Client) Remove(ctx context.Context, key, field string) error {
	_, err := c.do(ctx, "HDEL", key, field)
	return err
}

// Delete removes the key.
func (c *Client) Delete(ctx context.Context, key string) error {
	_, err := c.do(ctx, "DEL", key)
	return err
}

// Expire removes the key after that many seconds.
func (c *Client) Expire(ctx context.Context, key, seconds string) error {
	_, err := c.do(ctx, "EXPIRE", key, seconds)
	return err
}

// do sends one command. Kept connections that turn out to be dead are dropped
// until one is fresh. A store that died between doing a command and answering
// may so be asked twice: for a cart that is right often enough.
func (c *Client) do(ctx context.Context, args ...string) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	for {
		k, kept, err := c.get(ctx)
		if err != nil {
			return reply{}, err
		}
		deadline, _ := ctx.Deadline()
		k.SetDeadline(deadline)
		writeCommand(k.w, args...)
		var r reply
		if err = k.w.Flush(); err == nil {
			r, err = readReply(k.r)
		}
		if e := Error(""); err == nil || errors.As(err, &e) {
			c.put(k)
			return r, err
		}
		k.Close()
		if !kept || ctx.Err() != nil {
			return reply{}, err
		}
	}
}

func (c *Client) get(ctx context.Context) (k *conn, kept bool, err error) {
	select {
	case k := <-c.idle:
		return k, true, nil
	default:
	}
	var d net.Dialer
	n, err := d.DialContext(ctx, "tcp", c.address)
	if err != nil {
		return nil, false, err
	}
	return &conn{Conn: n, r: bufio.NewReader(n), w: bufio.NewWriter(n)}, false, nil
}

func (c *Client) put(k *conn) {
	select {
	case c.idle <- k:
	default:
		k.Close()
	}
}

// Close closes the idle connections.
func (c *Client) Close() {
	for {
		select {
		case k := <-c.idle:
			k.Close()
		default:
			return
		}
	}
}
