package store

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// own starts the shop's small store and returns its address.
func own(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- new(Server).Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

// redis starts a real redis-server and returns its address.
func redis(t *testing.T) string {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("redis-server is missing: apt-get install redis-server")
	}
	const ip = "127.66.0.2" // nobody else asks for a port there
	ln, err := net.Listen("tcp", ip+":0")
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	ln.Close()
	cmd := exec.Command(program, "--bind", ip, "--port", strconv.Itoa(port), "--save", "", "--appendonly", "no", "--dir", t.TempDir())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	address := net.JoinHostPort(ip, strconv.Itoa(port))
	for range 6000 {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			return address
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("redis-server doesn't listen")
	return ""
}

// TestStores: the small store and a real Redis are the same to the shop.
func TestStores(t *testing.T) {
	for name, start := range map[string]func(*testing.T) string{"own": own, "redis": redis} {
		t.Run(name, func(t *testing.T) {
			c := Dial(start(t))
			t.Cleanup(c.Close)
			ctx := t.Context()
			all := func(want map[string]string) {
				t.Helper()
				got, err := c.All(ctx, "k")
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("the hash (-want +got):\n%s", diff)
				}
			}
			all(map[string]string{})
			for i, want := range []string{"2", "4", "3"} {
				got, err := c.Add(ctx, "k", "linen", []string{"2", "2", "-1"}[i])
				if err != nil || got != want {
					t.Errorf("Add: %q, %v: want %q", got, err, want)
				}
			}
			if _, err := c.Add(ctx, "k", "wool", "1"); err != nil {
				t.Error(err)
			}
			all(map[string]string{"linen": "3", "wool": "1"})
			if err := c.Expire(ctx, "k", "100"); err != nil {
				t.Error(err)
			}
			if err := c.Remove(ctx, "k", "linen"); err != nil {
				t.Error(err)
			}
			all(map[string]string{"wool": "1"})
			if _, err := c.Add(ctx, "k", "wool", "many"); !errors.As(err, new(Error)) {
				t.Errorf("Add of a word: %v: want an error that the store answered", err)
			}
			if err := c.Delete(ctx, "k"); err != nil {
				t.Error(err)
			}
			all(map[string]string{})
			if err := c.Expire(ctx, "k", "0"); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestStoreGone: a kept connection whose store went away is replaced, and with
// no store there is an error.
func TestStoreGone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address, done := ln.Addr().String(), make(chan error)
	go func() { done <- new(Server).Serve(ctx, ln) }()
	c := Dial(address)
	defer c.Close()
	if _, err := c.Add(t.Context(), "k", "f", "1"); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-done
	if _, err := c.All(t.Context(), "k"); err == nil {
		t.Error("the store is gone and there was no error")
	}
	if ln, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	defer func() { cancel(); <-done }()
	go func() { done <- new(Server).Serve(ctx, ln) }()
	got, err := c.All(t.Context(), "k")
	if err != nil || len(got) != 0 {
		t.Errorf("the new store said %v, %v: want nothing", got, err)
	}
}

func TestExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Server
		say := func(args ...string) string {
			var b bytes.Buffer
			w := bufio.NewWriter(&b)
			s.answer(w, args, time.Now())
			w.Flush()
			return b.String()
		}
		say("HINCRBY", "k", "f", "1")
		say("EXPIRE", "k", "10")
		time.Sleep(9 * time.Second)
		if got := say("HGETALL", "k"); !strings.HasPrefix(got, "*2") {
			t.Errorf("after 9 of 10 seconds: %q", got)
		}
		time.Sleep(time.Second)
		if got := say("HGETALL", "k"); got != "*0\r\n" {
			t.Errorf("after 10 of 10 seconds: %q", got)
		}
		if got := say("DBSIZE"); got != ":0\r\n" {
			t.Errorf("%q keys are left", got)
		}
	})
}

func TestAnswers(t *testing.T) {
	var s Server
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"ping"}, "+PONG\r\n"},
		{nil, "-ERR an empty command\r\n"},
		{[]string{"PING", "x"}, "-ERR wrong number of arguments for 'PING'\r\n"},
		{[]string{"FLUSH\r\nALL"}, "-ERR unknown command 'FLUSH??ALL'\r\n"},
		{[]string{"HINCRBY", "k", "f", "x"}, "-ERR value is not an integer or out of range\r\n"},
		{[]string{"HDEL", "no", "f"}, ":0\r\n"},
	} {
		var b bytes.Buffer
		w := bufio.NewWriter(&b)
		s.answer(w, c.args, time.Now())
		w.Flush()
		if b.String() != c.want {
			t.Errorf("%q: %q, want %q", c.args, b.String(), c.want)
		}
	}
	s.keys = map[string]*hash{}
	for i := range maxKeys {
		s.keys[strconv.Itoa(i)] = &hash{fields: map[string]int64{}}
	}
	if s.create("one more", time.Now()) != nil {
		t.Error("the store has no bound")
	}
	s.keys["7"].expires = time.Now().Add(-time.Second)
	if s.create("one more", time.Now()) == nil {
		t.Error("a key that expired still takes room")
	}
	if n := len(maps.Clone(s.keys)); n != maxKeys {
		t.Errorf("%d keys, want %d", n, maxKeys)
	}
}

func FuzzCommand(f *testing.F) {
	for _, s := range []string{"*1\r\n$4\r\nPING\r\n", "*-1\r\n", "*2\r\n$3\r\nDEL\r\n$-1\r\n", "PING\r\n", "*1\r\n$99999999\r\n", "*1\r\n:5\r\n", "*9"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		args, err := readCommand(bufio.NewReader(bytes.NewReader(in)))
		if err != nil {
			return
		}
		if len(args) > maxArgs {
			t.Fatalf("%d arguments", len(args))
		}
		// What was understood can be said again, and means the same.
		var b bytes.Buffer
		w := bufio.NewWriter(&b)
		writeCommand(w, args...)
		w.Flush()
		again, err := readCommand(bufio.NewReader(&b))
		if err != nil && err != io.EOF || len(args) > 0 && cmp.Diff(args, again) != "" {
			t.Fatalf("%q was read back as %q, %v", args, again, err)
		}
	})
}
