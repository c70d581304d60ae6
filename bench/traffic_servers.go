//go:build linux

package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// serversCommand makes this program a group of servers whose manners can be
// changed while they run.
const serversCommand = "servers"

// servers is a running group.
type servers struct {
	proc    *process
	ports   []int
	control string
}

// serve starts n servers that answer 100 bytes after some time each, with
// so many workers each (0: no bound).
func (r *rig) serve(ctx context.Context, n int, took time.Duration, workers int) (*servers, error) {
	ports, err := freePorts(n + 1)
	if err != nil {
		return nil, err
	}
	s := &servers{ports: ports[1:], control: local(ports[0])}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var listen []string
	for _, p := range s.ports {
		listen = append(listen, local(p))
	}
	s.proc, err = spawn("servers", otherCPUs(), nil, self, serversCommand, "-control", s.control, "-listen", strings.Join(listen, ","), "-took", took.String(), "-workers", strconv.Itoa(workers))
	if err != nil {
		return nil, err
	}
	if err := s.proc.wait(ctx, s.control); err != nil {
		s.proc.stop()
		return nil, err
	}
	return s, nil
}

// set changes one server's manners, from 0; -1 is all: a delay on top, and the share
// of its answers that are 503.
func (s *servers) set(i int, delay time.Duration, fail float64) error {
	resp, err := http.Get(fmt.Sprintf("http://%s/set?server=%d&delay=%s&fail=%v", s.control, i, delay, fail))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("the servers said %s: %s", resp.Status, b)
	}
	return nil
}

// counts returns how many requests each server got since it was last asked.
func (s *servers) counts() (each []int64, total int64, err error) {
	resp, err := http.Get("http://" + s.control + "/counts")
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&each); err != nil {
		return nil, 0, err
	}
	for _, n := range each {
		total += n
	}
	return each, total, nil
}

// server is one of the group, in the child.
type server struct {
	took    time.Duration
	workers chan struct{} // nil: no bound
	delay   atomic.Int64
	fail    atomic.Int64 // millionths
	count   atomic.Int64
}

var hundred = strings.Repeat("0123456789", 10)

func (s *server) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	s.count.Add(1)
	if s.workers != nil {
		s.workers <- struct{}{}
		defer func() { <-s.workers }()
	}
	if d := s.took + time.Duration(s.delay.Load()); d > 0 {
		time.Sleep(d)
	}
	if f := s.fail.Load(); f > 0 && rand.Int64N(1e6) < f {
		http.Error(w, "no", http.StatusServiceUnavailable)
		return
	}
	io.WriteString(w, hundred)
}

func serversMain(args []string) int {
	fs := flag.NewFlagSet(serversCommand, flag.ExitOnError)
	control := fs.String("control", "", "HOST:PORT of the control server")
	listen := fs.String("listen", "", "HOST:PORT,... of the servers")
	took := fs.Duration("took", 0, "time that an answer takes")
	workers := fs.Int("workers", 0, "requests that a server works on at once; 0 is any number")
	fs.Parse(args)
	var all []*server
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, "servers:", err)
		return 1
	}
	var running sync.WaitGroup
	for address := range strings.SplitSeq(*listen, ",") {
		s := &server{took: *took}
		if *workers > 0 {
			s.workers = make(chan struct{}, *workers)
		}
		ln, err := net.Listen("tcp", address)
		if err != nil {
			return fail(err)
		}
		all = append(all, s)
		running.Go(func() { http.Serve(ln, s) })
	}
	if err := http.ListenAndServe(*control, manners(all)); err != nil {
		return fail(err)
	}
	return 0
}

// manners is the control server: /set and /counts.
func manners(all []*server) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/set", func(w http.ResponseWriter, r *http.Request) {
		i, delay, share, err := parseManners(r.URL.Query(), len(all))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		for k, s := range all {
			if i == -1 || i == k {
				s.delay.Store(int64(delay))
				s.fail.Store(int64(share * 1e6))
			}
		}
	})
	mux.HandleFunc("/counts", func(w http.ResponseWriter, _ *http.Request) {
		each := make([]int64, len(all))
		for i, s := range all {
			each[i] = s.count.Swap(0)
		}
		json.NewEncoder(w).Encode(each)
	})
	return mux
}

func parseManners(q url.Values, n int) (i int, delay time.Duration, fail float64, err error) {
	if i, err = strconv.Atoi(q.Get("server")); err != nil || i < -1 || i >= n {
		return 0, 0, 0, fmt.Errorf("server is %q, want -1 to %d", q.Get("server"), n-1)
	}
	if delay, err = time.ParseDuration(q.Get("delay")); err != nil || delay < 0 {
		return 0, 0, 0, fmt.Errorf("delay is %q, want a duration", q.Get("delay"))
	}
	if fail, err = strconv.ParseFloat(q.Get("fail"), 64); err != nil || !(fail >= 0 && fail <= 1) {
		return 0, 0, 0, fmt.Errorf("fail is %q, want 0 to 1", q.Get("fail"))
	}
	return i, delay, fail, nil
}
