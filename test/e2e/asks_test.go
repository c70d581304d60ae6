package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// asks is what a client counted, after E2E_SKIP of its time.
type asks struct {
	Statuses map[string]int
	Servers  map[string]int
	// Seconds is the time in which it counted, Slowest the longest wait.
	Seconds, Slowest float64
	// ID is the tulle-id of the last answer that had one, and Text a body that
	// wasn't 200's.
	ID, Text string
}

// asksMain sends GETs to E2E_URL, E2E_RATE times a second for E2E_FOR, or E2E_COUNT
// of them, from E2E_AT on (milliseconds since 1970), and prints what it counted.
func asksMain() int {
	rate, _ := strconv.Atoi(os.Getenv("E2E_RATE"))
	count, _ := strconv.Atoi(os.Getenv("E2E_COUNT"))
	skip, _ := time.ParseDuration(os.Getenv("E2E_SKIP"))
	if length, err := time.ParseDuration(os.Getenv("E2E_FOR")); err == nil {
		count = int(length.Seconds() * float64(rate))
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	a := asks{Statuses: map[string]int{}, Servers: map[string]int{}}
	var mu sync.Mutex
	var all sync.WaitGroup
	began := time.Now()
	if ms, err := strconv.ParseInt(os.Getenv("E2E_AT"), 10, 64); err == nil {
		began = time.UnixMilli(ms)
	}
	for i := range count {
		at := time.Duration(i) * time.Second / time.Duration(rate)
		time.Sleep(time.Until(began.Add(at)))
		all.Go(func() {
			sent := time.Now()
			status, server, id, text := "error", "", "", ""
			answer, err := client.Get(os.Getenv("E2E_URL"))
			if err == nil {
				var body []byte
				if body, err = io.ReadAll(answer.Body); err == nil {
					status, server, id = strconv.Itoa(answer.StatusCode), answer.Header.Get("X-Server"), answer.Header.Get("Tulle-Id")
				}
				answer.Body.Close()
				text = string(body)
			}
			if err != nil {
				text = err.Error()
			}
			took := time.Since(sent).Seconds()
			mu.Lock()
			defer mu.Unlock()
			if at < skip {
				return
			}
			a.Statuses[status]++
			a.Slowest = max(a.Slowest, took)
			if id != "" {
				a.ID = id
			}
			if status == "200" {
				a.Servers[server]++
			} else {
				a.Text = text
			}
		})
	}
	all.Wait()
	a.Seconds = (time.Since(began) - skip).Seconds()
	json.NewEncoder(os.Stdout).Encode(a)
	return 0
}

// oddMain is an HTTP server on E2E_LISTEN that answers E2E_STATUS, never when that
// is "never", and at /stream something every 50 ms without an end.
func oddMain() int {
	status, err := strconv.Atoi(os.Getenv("E2E_STATUS"))
	l, failed := net.Listen("tcp", os.Getenv("E2E_LISTEN"))
	if failed != nil {
		fmt.Fprintln(os.Stderr, failed)
		return 1
	}
	fmt.Println("server listens", os.Getpid())
	http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Server", os.Getenv("E2E_NAME"))
		switch {
		case err != nil:
			<-r.Context().Done()
		case r.URL.Path == "/stream":
			for r.Context().Err() == nil {
				io.WriteString(w, "more\n")
				w.(http.Flusher).Flush()
				time.Sleep(50 * time.Millisecond)
			}
		default:
			w.WriteHeader(status)
		}
	}))
	return 0
}

// odd runs a server of oddMain as a workload of a service.
func (m *mesh) odd(name, service, status string) *process {
	m.t.Helper()
	return m.serve("--name", name, "--service", service, "--service-account", service, "--port", "8080", "--app-protocol", "http", "--",
		"env", "E2E_ROLE=odd", "E2E_LISTEN=127.0.0.1:8080", "E2E_NAME="+name, "E2E_STATUS="+status, self(m.t))
}

// asking starts a client of asksMain in a workload of its own; more are E2E_NAME=VALUE.
func (m *mesh) asking(name, url string, rate int, more ...string) *process {
	m.t.Helper()
	return m.serve(append(append([]string{"--name", name, "--", "env", "E2E_ROLE=asks", "E2E_URL=" + url, "E2E_RATE=" + strconv.Itoa(rate)}, more...), self(m.t))...)
}

// stay asks n times, and stays, so that its proxy can tell of it.
func (m *mesh) stay(name, url string, n int) *process {
	m.t.Helper()
	return m.serve("--name", name, "--", "sh", "-c", "E2E_ROLE=asks E2E_URL="+url+" E2E_RATE=200 E2E_COUNT="+strconv.Itoa(n)+" "+self(m.t)+"; exec sleep 300")
}

// asked waits for what the client has counted.
func (p *process) asked() asks {
	p.t.Helper()
	p.await("}\n")
	var a asks
	text := p.out.String()
	if err := json.Unmarshal([]byte(text[max(0, strings.Index(text, "{")):]), &a); err != nil {
		p.t.Fatalf("what %s counted: %v:\n%s", p.name, err, text)
	}
	p.t.Logf("%v by %v in %.1f s, the slowest in %.3f s", a.Statuses, a.Servers, a.Seconds, a.Slowest)
	return a
}

// ask asks n times, one after the other, from a workload of that name.
func (m *mesh) ask(name, url string, n int) asks {
	m.t.Helper()
	p := m.asking(name, url, 200, "E2E_COUNT="+strconv.Itoa(n))
	a := p.asked()
	p.wait(patience) // its name is free again
	return a
}

// all asserts that every answer had one status.
func (a asks) all(t *testing.T, status string, atLeast int) {
	t.Helper()
	if len(a.Statuses) != 1 || a.Statuses[status] < atLeast {
		t.Errorf("answers %v (%s), want only %s, %d of them", a.Statuses, a.Text, status, atLeast)
	}
}

// anyObject is what any kind of object says of itself.
type anyObject struct {
	Kind     string
	Metadata struct {
		Name, Namespace string
		Generation      int64
	}
	Status struct {
		Conditions         []condition
		Parents, Ancestors []struct{ Conditions []condition }
	}
}

type condition struct {
	Type, Status, Reason, Message string
	ObservedGeneration            int64
}

func (o *anyObject) conditions() []condition {
	out := o.Status.Conditions
	for _, list := range [][]struct{ Conditions []condition }{o.Status.Parents, o.Status.Ancestors} {
		for _, p := range list {
			out = append(out, p.Conditions...)
		}
	}
	return out
}
