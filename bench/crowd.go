//go:build linux

package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// crowd is many idle client connections of one kind.
type crowd struct {
	name, title string
	size        int
	http2       bool
	peers       []string
}

var crowds = []crowd{
	{"idle-10000-http1", "10,000 idle HTTP/1.1 connections", 10_000, false, []string{"haproxy", "nginx", "envoy"}},
	{"idle-1000-http2", "1,000 idle HTTP/2 connections", 1000, true, []string{"haproxy", "envoy"}},
}

// crowds is the memory of a proxy with very many idle client connections.
func (r *rig) crowds(ctx context.Context) error {
	if err := r.serveHTTP2(ctx); err != nil {
		return err
	}
	for _, c := range crowds {
		fmt.Printf("%s that each made one request\n  %-9s %10s %14s %12s\n", c.title, "", "RSS MB", "KB/connection", "before MB")
		best, own := 0.0, 0.0
		for _, name := range append(r.peers(c.peers...), r.peers("tulle")...) {
			origin := r.address
			if c.http2 {
				origin = r.address2
			}
			h, err := r.oneHop(ctx, name, origin, c.http2)
			if err != nil {
				return err
			}
			before, after, err := h.crowded(c)
			h.stop()
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			total := float64(after) / 1e6
			fmt.Printf("  %-9s %10.1f %14.2f %12.1f\n", name, total, float64(after-before)/1e3/float64(c.size), float64(before)/1e6)
			switch {
			case name == "tulle":
				own = total
			case best == 0 || total < best:
				best = total
			}
		}
		if own > 0 && best > 0 {
			r.bound(c.name, own/best, limitIdleBest)
		} else {
			r.missing = append(r.missing, c.name)
		}
	}
	return nil
}

// crowded opens a crowd's connections to a fresh hop and returns the bytes that
// are resident before and while they rest.
func (h *hop) crowded(c crowd) (before, after int64, err error) {
	open := func() (int, error) {
		p := paced{target: h.address, http2: c.http2, request: []byte("GET / HTTP/1.1\r\nHost: " + h.address + "\r\n\r\n")}
		conn, err := p.open()
		if err != nil {
			return 0, err
		}
		return conn.fd, nil
	}
	var fds []int
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	for i := range c.size + 1 {
		fd, err := open()
		if err != nil {
			return 0, 0, fmt.Errorf("connection %d: %w", i+1, err)
		}
		fds = append(fds, fd)
		if i == 0 { // what is made at first use is there
			time.Sleep(time.Second)
			m, err := h.procs[0].memory()
			if err != nil {
				return 0, 0, err
			}
			before = m.total
		}
	}
	time.Sleep(3 * time.Second)
	m, err := h.procs[0].memory()
	return before, m.total, err
}
