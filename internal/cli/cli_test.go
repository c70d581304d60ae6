package cli

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	pathpkg "path"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/run/namespace"
)

var update = flag.Bool("update", false, "rewrite the expected output in testdata")

// testNow is what the clock of every tested command says.
var testNow = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func TestMain(m *testing.M) {
	if namespace.IsChild(os.Args) {
		os.Exit(namespace.Child())
	}
	testscript.Main(m, map[string]func(){"tulle": func() {
		a := &app{Streams: Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, getenv: os.Getenv, now: func() time.Time { return testNow }}
		os.Exit(a.main(context.Background(), os.Args[1:]))
	}, "tulle-proxy": fakeProxy})
}

// TestScripts runs each testdata/*.txtar with a control plane that answers from
// the files under api/ and keeps what is PUT.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata",
		UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			// A Unix socket's path is short; the work directory's may not be.
			dir, err := os.MkdirTemp("", "tulle")
			if err != nil {
				return err
			}
			env.Defer(func() { os.RemoveAll(dir) })
			env.Setenv("TULLE_DATA_DIR", dir)
			env.Setenv("NO_COLOR", "1")
			env.Setenv("GORACE", "atexit_sleep_ms=0") // else each process of a race-detecting test waits a second
			l, err := net.Listen("unix", filepath.Join(dir, "control.sock"))
			if err != nil {
				return err
			}
			api := &fakeAPI{files: filepath.Join(env.WorkDir, "api"), objects: map[string]json.RawMessage{}}
			s := &http.Server{Handler: api}
			go s.Serve(l)
			env.Defer(func() { s.Close() })
			return nil
		},
		Condition: func(condition string) (bool, error) {
			if condition == "netns" {
				return hasNamespaces(), nil
			}
			return false, fmt.Errorf("unknown condition %q", condition)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"code": code, "await": await, "signal": signalTo},
	})
}

// code N COMMAND... runs a command and wants the exit code N.
func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N COMMAND [ARGUMENT...]")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

// hasNamespaces reports whether programs can be put into network namespaces here.
var hasNamespaces = sync.OnceValue(func() bool {
	n, err := namespace.Start(context.Background(), namespace.Config{})
	if err != nil {
		return false
	}
	n.Close()
	return true
})

// await FILE waits until a file exists; await FILE TEXT until it holds the text.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: await FILE [TEXT]")
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		data, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && (len(args) == 1 || strings.Contains(string(data), args[1])) {
			return
		}
	}
	data, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Fatalf("%s isn't there, or doesn't say so: %q, %v", args[0], data, err)
}

// signal NUMBER FILE sends a signal to the process whose id a file holds.
func signalTo(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: signal NUMBER FILE")
	}
	number, err := strconv.Atoi(args[0])
	ts.Check(err)
	pid, err := strconv.Atoi(strings.TrimSpace(ts.ReadFile(args[1])))
	ts.Check(err)
	ts.Check(syscall.Kill(pid, syscall.Signal(number)))
}

// fakeAPI is the control API as far as the command line needs it.
type fakeAPI struct {
	files   string
	mu      sync.Mutex // guards objects
	objects map[string]json.RawMessage
	tokens  []client.JoinTokenRequest
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	refuse := func(code int, reason, message string, causes ...client.Cause) {
		w.WriteHeader(code)
		s := client.Status{Kind: "Status", APIVersion: "v1", Result: "Failure", Reason: reason, Message: message, Code: code}
		if len(causes) > 0 {
			s.Details = &client.StatusDetails{Causes: causes}
		}
		json.NewEncoder(w).Encode(s)
	}
	path := r.URL.Path
	if path == "/tulle/v1/join-tokens" && r.Method == http.MethodPost {
		var asked client.JoinTokenRequest
		if json.NewDecoder(r.Body).Decode(&asked) != nil || asked.Identity == "" {
			refuse(http.StatusBadRequest, client.ReasonBadRequest, "no identity")
			return
		}
		token := "secret-token"
		if asked.Identity == "default/refuse" {
			token = "refuse"
		}
		f.tokens = append(f.tokens, asked)
		json.NewEncoder(w).Encode(client.JoinToken{Token: token, Identity: asked.Identity, Services: asked.Services})
		return
	}
	if strings.HasPrefix(path, "/tulle/") {
		name := filepath.Join(f.files, strings.TrimPrefix(path, "/"))
		if service := r.URL.Query().Get("service"); service != "" {
			name = filepath.Join(name, service)
		}
		data, err := os.ReadFile(name + ".json")
		if err != nil {
			refuse(http.StatusNotFound, client.ReasonNotFound, "there is no "+path)
			return
		}
		w.Write(data)
		return
	}
	switch r.Method {
	case http.MethodPut:
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), "refuse-me") {
			refuse(http.StatusUnprocessableEntity, client.ReasonInvalid, "it is invalid", client.Cause{Field: "spec.ports[0].port", Message: "70000 is too high: want 1 to 65535"})
			return
		}
		action := "created"
		if have, ok := f.objects[path]; ok {
			action = "configured"
			if sameJSON(have, body) {
				action = "unchanged"
			}
		}
		if r.URL.Query().Get("dryRun") == "" {
			f.objects[path] = body
		}
		w.Header().Set(client.HeaderAction, action)
		w.Write(body)
	case http.MethodDelete:
		if _, ok := f.objects[path]; !ok {
			refuse(http.StatusNotFound, client.ReasonNotFound, "not there")
			return
		}
		delete(f.objects, path)
		w.Write([]byte(`{"kind":"Status","status":"Success"}`))
	case http.MethodGet:
		if one, ok := f.objects[path]; ok {
			w.Write(one)
			return
		}
		f.list(w, path, refuse)
	}
}

// list answers for a path without a name.
func (f *fakeAPI) list(w http.ResponseWriter, path string, refuse func(int, string, string, ...client.Cause)) {
	plural := path[strings.LastIndex(path, "/")+1:]
	for _, k := range object.Kinds() {
		if k.Plural != plural {
			continue
		}
		l := client.List{Kind: k.Name + "List", APIVersion: k.APIVersion(), Items: []json.RawMessage{}}
		_, namespace, one := strings.Cut(strings.TrimSuffix(path, "/"+plural), "/namespaces/")
		for _, at := range sortedNames(f.objects) {
			if !strings.HasSuffix(pathpkg.Dir(at), "/"+plural) || one && !strings.Contains(at, "/namespaces/"+namespace+"/") {
				continue
			}
			l.Items = append(l.Items, f.objects[at])
		}
		json.NewEncoder(w).Encode(l)
		return
	}
	refuse(http.StatusNotFound, client.ReasonNotFound, "not there")
}

func sameJSON(x, y []byte) bool {
	var a, b any
	return json.Unmarshal(x, &a) == nil && json.Unmarshal(y, &b) == nil && reflect.DeepEqual(a, b)
}
