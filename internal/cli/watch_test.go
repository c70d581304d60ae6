package cli

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/object"
)

// TestWatchCommand: what there is, what changes, and on after the control plane has
// ended the watch, or doesn't keep where it was.
func TestWatchCommand(t *testing.T) {
	service := func(event, name, labels string, version int) string {
		return fmt.Sprintf(`{"type":%q,"object":{"apiVersion":"v1","kind":"Service","metadata":{"name":%q,"namespace":"shop","resourceVersion":"%d","labels":{%s}},"spec":{"ports":[{"port":80}]}}}`+"\n", event, name, version, labels)
	}
	streams := []string{
		service("ADDED", "cart", `"app":"cart"`, 3) + service("ADDED", "web", "", 4) + service("MODIFIED", "cart", `"app":"cart"`, 5) + service("BOOKMARK", "", "", 7),
		`{"type":"ERROR","object":{"kind":"Status","status":"Failure","reason":"Expired","message":"too old","code":410}}` + "\n",
		service("ADDED", "cart", `"app":"cart"`, 9) + service("DELETED", "web", "", 10) + service("DELETED", "cart", "", 11),
	}
	for _, test := range []struct {
		output string
		want   []string
	}{
		{formatName, []string{"ADDED     service/cart", "MODIFIED  service/cart", "ADDED     service/cart", "DELETED   service/cart"}},
		{formatTable, []string{
			"ADDED     shop/cart                 address=-  ports=80  protocol=detect", "MODIFIED  shop/cart                 address=-  ports=80  protocol=detect",
			"ADDED     shop/cart                 address=-  ports=80  protocol=detect", "DELETED   shop/cart"}},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var asked []string
		socket := filepath.Join(t.TempDir(), "control.sock")
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked = append(asked, r.URL.Path+" "+r.URL.Query().Get("resourceVersion"))
			if len(asked) <= len(streams) {
				fmt.Fprint(w, streams[len(asked)-1])
				return
			}
			cancel()
		})}
		go s.Serve(l)
		var out bytes.Buffer
		a := &app{Streams: Streams{Out: &out}}
		conn := client.New(client.Config{Socket: socket})
		if err := a.watch(ctx, conn, []ref{{kind: object.Service}}, "", test.output, map[string]string{"app": "cart"}); err != nil {
			t.Error(err)
		}
		conn.Close()
		s.Close()
		if diff := cmp.Diff(test.want, strings.Split(strings.TrimSpace(out.String()), "\n")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.output, diff)
		}
		want := []string{"/api/v1/services ", "/api/v1/services 7", "/api/v1/services ", "/api/v1/services 11"}
		if diff := cmp.Diff(want, asked); diff != "" {
			t.Errorf("asked (-want +got):\n%s", diff)
		}
	}
	if err := new(app).watch(t.Context(), nil, []ref{{kind: object.Service}, {kind: object.Workload}}, "", "", nil); err == nil {
		t.Error("two kinds: want an error")
	}
}
