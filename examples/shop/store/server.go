package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Server is the shop's own small store. It keeps everything in memory and
// forgets it when it stops. The zero value is ready; Serve may be called once.
type Server struct {
	mu   sync.Mutex
	keys map[string]*hash // guarded by mu
}

type hash struct {
	fields  map[string]int64
	expires time.Time // zero: never
}

// maxKeys bounds the store; past it, keys that expired are dropped and new
// ones refused.
const maxKeys = 100_000

// idleTimeout ends a connection that sent nothing for that long.
const idleTimeout = 5 * time.Minute

// Serve accepts connections until ctx ends, then closes them all and waits.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	for {
		c, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		wg.Go(func() {
			defer c.Close()
			stop := context.AfterFunc(ctx, func() { c.Close() })
			defer stop()
			s.converse(c)
		})
	}
}

func (s *Server) converse(c net.Conn) {
	r, w := bufio.NewReader(c), bufio.NewWriter(c)
	for {
		c.SetDeadline(time.Now().Add(idleTimeout))
		args, err := readCommand(r)
		if err != nil {
			if !errors.Is(err, io.EOF) {
				fmt.Fprintf(w, "-ERR %v\r\n", err)
				w.Flush()
			}
			return
		}
		quit := s.answer(w, args, time.Now())
		if r.Buffered() == 0 || quit {
			if w.Flush() != nil || quit {
				return
			}
		}
	}
}

// answer does one command and writes its answer; true ends the connection.
func (s *Server) answer(w *bufio.Writer, args []string, now time.Time) (quit bool) {
	if len(args) == 0 {
		fmt.Fprint(w, "-ERR an empty command\r\n")
		return false
	}
	name := strings.ToUpper(args[0])
	arity := map[string]int{"PING": 1, "QUIT": 1, "HINCRBY": 4, "HGETALL": 2, "HDEL": 3, "DEL": 2, "EXPIRE": 3, "DBSIZE": 1}
	want, known := arity[name]
	switch {
	case !known:
		fmt.Fprintf(w, "-ERR unknown command '%.32s'\r\n", strings.Map(printable, args[0]))
		return false
	case len(args) != want:
		fmt.Fprintf(w, "-ERR wrong number of arguments for '%s'\r\n", name)
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch name {
	case "PING":
		fmt.Fprint(w, "+PONG\r\n")
	case "QUIT":
		fmt.Fprint(w, "+OK\r\n")
		return true
	case "DBSIZE":
		fmt.Fprintf(w, ":%d\r\n", len(s.keys))
	case "HINCRBY":
		by, err := strconv.ParseInt(args[3], 10, 64)
		if err != nil {
			fmt.Fprint(w, "-ERR value is not an integer or out of range\r\n")
			return false
		}
		h := s.hash(args[1], now)
		if h == nil {
			if h = s.create(args[1], now); h == nil {
				fmt.Fprint(w, "-OOM the store is full\r\n")
				return false
			}
		}
		h.fields[args[2]] += by
		fmt.Fprintf(w, ":%d\r\n", h.fields[args[2]])
	case "HGETALL":
		h := s.hash(args[1], now)
		if h == nil {
			fmt.Fprint(w, "*0\r\n")
			return false
		}
		fmt.Fprintf(w, "*%d\r\n", 2*len(h.fields))
		for k, v := range h.fields {
			writeBulk(w, k)
			writeBulk(w, strconv.FormatInt(v, 10))
		}
	case "HDEL":
		n := 0
		if h := s.hash(args[1], now); h != nil {
			if _, ok := h.fields[args[2]]; ok {
				n = 1
				delete(h.fields, args[2])
			}
			if len(h.fields) == 0 {
				delete(s.keys, args[1])
			}
		}
		fmt.Fprintf(w, ":%d\r\n", n)
	case "DEL":
		n := 0
		if s.hash(args[1], now) != nil {
			n = 1
			delete(s.keys, args[1])
		}
		fmt.Fprintf(w, ":%d\r\n", n)
	case "EXPIRE":
		seconds, err := strconv.Atoi(args[2])
		if err != nil {
			fmt.Fprint(w, "-ERR value is not an integer or out of range\r\n")
			return false
		}
		n := 0
		if h := s.hash(args[1], now); h != nil {
			n = 1
			h.expires = now.Add(time.Duration(seconds) * time.Second)
		}
		fmt.Fprintf(w, ":%d\r\n", n)
	}
	return false
}

// hash returns the hash at key, or nil; one that expired is gone.
func (s *Server) hash(key string, now time.Time) *hash {
	h := s.keys[key]
	if h != nil && !h.expires.IsZero() && !now.Before(h.expires) {
		delete(s.keys, key)
		return nil
	}
	return h
}

// create makes an empty hash, or returns nil when the store is full.
func (s *Server) create(key string, now time.Time) *hash {
	if len(s.keys) >= maxKeys {
		for k := range s.keys {
			s.hash(k, now)
		}
		if len(s.keys) >= maxKeys {
			return nil
		}
	}
	if s.keys == nil {
		s.keys = make(map[string]*hash)
	}
	h := &hash{fields: make(map[string]int64)}
	s.keys[key] = h
	return h
}

func printable(r rune) rune {
	if r < ' ' || r > '~' {
		return '?'
	}
	return r
}
