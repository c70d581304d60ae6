package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// result is what a load generator counted.
type result struct {
	OK     int
	Failed int
	// Errors are the first failures, Servers who answered how often.
	Errors  []string
	Servers map[string]int
}

// loadMain is the load generator, a program that knows nothing of a mesh: it
// asks E2E_URL E2E_RATE times a second, evenly, for E2E_FOR or until SIGTERM,
// and prints what it counted.
func loadMain() int {
	rate, err := strconv.Atoi(os.Getenv("E2E_RATE"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	length, err := time.ParseDuration(os.Getenv("E2E_FOR"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute}}
	r := result{Servers: map[string]int{}}
	var mu sync.Mutex
	var asking sync.WaitGroup
	fmt.Println("load begins")
	// Open loop: each request has its time, and none is left out when the
	// machine is slow.
	began, pause := time.Now(), time.Second/time.Duration(rate)
	for i := 0; time.Duration(i)*pause < length && ctx.Err() == nil; i++ {
		select {
		case <-time.After(time.Until(began.Add(time.Duration(i) * pause))):
		case <-ctx.Done():
		}
		asking.Go(func() {
			who, err := ask(client, os.Getenv("E2E_URL"), i)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				r.OK++
				r.Servers[who]++
				return
			}
			r.Failed++
			if len(r.Errors) < 10 {
				r.Errors = append(r.Errors, time.Now().Format("05.000 ")+err.Error())
			}
		})
	}
	asking.Wait()
	json.NewEncoder(os.Stdout).Encode(r)
	return 0
}

func ask(client *http.Client, url string, i int) (who string, err error) {
	body := strings.NewReader("request " + strconv.Itoa(i))
	answer, err := client.Post(url, "text/plain", body)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return "", err
	}
	if want := "request " + strconv.Itoa(i); answer.StatusCode != 200 || string(text) != want {
		return "", fmt.Errorf("%d %q (%s), want 200 %q", answer.StatusCode, text, answer.Header.Get("Proxy-Status"), want)
	}
	return answer.Header.Get("X-Server"), nil
}

// serverMain is an HTTP server on E2E_LISTEN that echoes, as a program does that
// ends well: after SIGTERM it answers what it has and then ends.
func serverMain() int {
	l, err := net.Listen("tcp", os.Getenv("E2E_LISTEN"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Server", os.Getenv("E2E_NAME"))
		time.Sleep(2 * time.Millisecond) // so that something is always under way
		io.Copy(w, r.Body)
	})}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go s.Serve(l)
	fmt.Println("server listens", os.Getpid())
	<-ctx.Done()
	if err := s.Shutdown(context.Background()); err != nil {
		return 1
	}
	return 0
}

// self is this test's own program, to be run in another role.
func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path, err = filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// server runs an echo server as a workload of service echo.
func (m *mesh) server(name string) *process {
	m.t.Helper()
	return m.serve("--name", name, "--service", "echo", "--service-account", "echo", "--port", "8080", "--app-protocol", "http", "--",
		"env", "E2E_ROLE=server", "E2E_LISTEN=127.0.0.1:8080", "E2E_NAME="+name, self(m.t))
}

// load asks service echo for a while; finish returns what it counted.
func (m *mesh) load(rate int, length time.Duration) *process {
	m.t.Helper()
	p := m.serve("--name", "load", "--", "env", "E2E_ROLE=load", "E2E_URL=http://echo:8080/", "E2E_RATE="+strconv.Itoa(rate), "E2E_FOR="+length.String(), self(m.t))
	p.await("load begins")
	return p
}

func (p *process) result(limit time.Duration) result {
	p.t.Helper()
	p.wait(limit)
	_, text, _ := strings.Cut(p.out.String(), "load begins\n")
	var r result
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		p.t.Fatalf("the load's result: %v:\n%s", err, p.out)
	}
	p.t.Logf("%d answered %v, %d failed", r.OK, r.Servers, r.Failed)
	return r
}

// noneFailed asserts that every request was answered, and that there were enough.
func (r result) noneFailed(t *testing.T, atLeast int) {
	t.Helper()
	if r.Failed != 0 {
		t.Errorf("%d requests failed, want 0:\n%s", r.Failed, strings.Join(r.Errors, "\n"))
	}
	if r.OK < atLeast {
		t.Errorf("%d requests were answered, want at least %d", r.OK, atLeast)
	}
}
