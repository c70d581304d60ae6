package health

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/control/store"
)

func world(t *testing.T, text string) (*store.Objects, *Checker) {
	t.Helper()
	o := store.NewObjects(store.NewMemory())
	docs, err := object.Decode("test", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range docs {
		if _, _, err := o.Apply(t.Context(), d.Object, false); err != nil {
			t.Fatal(err)
		}
	}
	return o, New(o, func() bool { return true }, slog.New(slog.DiscardHandler))
}

func status(t *testing.T, o *store.Objects, name string) v1alpha1.WorkloadStatus {
	t.Helper()
	w, err := o.Fetch(t.Context(), object.Workload, "default", name)
	if err != nil {
		t.Fatal(err)
	}
	return w.(*v1alpha1.Workload).Status
}

func workload(name, more string) string {
	return "apiVersion: tulle.dev/v1alpha1\nkind: Workload\nmetadata: {name: " + name + "}\nspec: {ports: [{service: cart, port: 80, " + more + "}]}\n---\n"
}

func TestTCPAndHTTP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	var code atomic.Int32
	code.Store(200)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			w.WriteHeader(404)
			return
		}
		w.WriteHeader(int(code.Load()))
	}))
	defer server.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	address := func(l net.Listener) string { return fmt.Sprintf("appAddress: %q", l.Addr()) }
	o, c := world(t, workload("tcp", address(l))+
		workload("http", fmt.Sprintf("appAddress: %q, healthPath: /healthz", server.Listener.Addr()))+
		workload("none", address(closed))+
		workload("meshed", address(closed)+", meshPort: 15080"))
	c.Round(t.Context())
	ready := func(name string) string {
		s := status(t, o, name)
		if s.Ready == nil {
			return "unknown"
		}
		return fmt.Sprint(*s.Ready)
	}
	want := func(when string, m map[string]string) {
		t.Helper()
		for name, w := range m {
			if got := ready(name); got != w {
				t.Errorf("%s: %s is ready=%s, want %s (%s)", when, name, got, w, status(t, o, name).Detail)
			}
		}
	}
	// What never answered is out at once; a workload with a proxy is not asked.
	want("first", map[string]string{"tcp": "true", "http": "true", "none": "false", "meshed": "unknown"})
	if d := status(t, o, "none").Detail; !strings.Contains(d, "refused") {
		t.Errorf("detail: %q", d)
	}
	code.Store(503)
	l.Close()
	for range failures - 1 {
		c.Round(t.Context())
		want("a few failures", map[string]string{"tcp": "true", "http": "true"})
	}
	c.Round(t.Context())
	want("many failures", map[string]string{"tcp": "false", "http": "false"})
	if d := status(t, o, "http").Detail; !strings.Contains(d, "503") {
		t.Errorf("detail: %q", d)
	}
	code.Store(204)
	before := status(t, o, "tcp")
	c.Round(t.Context())
	want("one success", map[string]string{"http": "true"})
	if after := status(t, o, "tcp"); after.Detail != before.Detail {
		t.Errorf("written although nothing changed: %+v", after)
	}
}
