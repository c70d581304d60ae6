package record

import (
	"encoding/json"
	"errors"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/meter"
)

// wait bounds every wait for what should happen soon.
const wait = 30 * time.Second

// some is a record with everything.
func some() *Record {
	return &Record{
		At: time.Date(2026, 1, 2, 3, 4, 5, 6789000, time.UTC), Direction: "inbound", Listener: "inbound/cart.default:8080",
		Source: "spiffe://mesh.local/ns/default/sa/web", SourceAddress: netip.MustParseAddrPort("10.0.0.1:4000"),
		Service: "cart.default:8080", Rule: "httproute/default/cart#0", Backend: "cart-v2.default:8080",
		Endpoint: netip.MustParseAddrPort("[fd00::1]:80"), Workload: "cart-1.default", Protocol: "http2",
		Method: []byte("GET"), Authority: []byte("cart:8080"), Path: []byte("/items"), Status: 503, GRPC: 14,
		Reason: "connection_refused", Text: `It said "no".`, Policy: "trafficpolicy/default/a", Decision: "audit", AccessRule: "accesspolicy/default/b#1",
		Routed: 50 * time.Microsecond, Sent: 1500 * time.Microsecond, First: 2 * time.Millisecond, Total: 12*time.Millisecond + 30*time.Microsecond,
		Received: 7, Answered: 9, Tries: 2, RequestID: []byte("abc-1"), ID: 1, Peer: 2,
	}
}

func TestJSON(t *testing.T) {
	for _, test := range []struct {
		name string
		r    *Record
		want string
	}{
		{"all", some(), `{"time":"2026-01-02T03:04:05.006789Z","direction":"inbound","listener":"inbound/cart.default:8080","source":"spiffe://mesh.local/ns/default/sa/web",` +
			`"source_address":"10.0.0.1:4000","service":"cart.default:8080","rule":"httproute/default/cart#0","backend":"cart-v2.default:8080","endpoint":"[fd00::1]:80",` +
			`"workload":"cart-1.default","protocol":"http2","method":"GET","authority":"cart:8080","path":"/items","status":503,"grpc_status":14,"reason":"connection_refused",` +
			`"text":"It said \"no\".","policy":"trafficpolicy/default/a","decision":"audit","access_rule":"accesspolicy/default/b#1","duration_ms":12.03,"routed_ms":0.05,` +
			`"sent_ms":1.5,"first_byte_ms":2,"received_bytes":7,"sent_bytes":9,"tries":2,"request_id":"abc-1","tulle_id":"0000000000000001","peer_tulle_id":"0000000000000002"}`},
		{"nothing", &Record{GRPC: -1, Total: -1, SourceAddress: netip.MustParseAddrPort("[fe80::1%eth0]:1")},
			`{"time":"0001-01-01T00:00:00.000000Z","source_address":"[fe80::1]:1","duration_ms":0,"received_bytes":0,"sent_bytes":0}`},
		{"what a client may send", &Record{GRPC: -1, Path: []byte("/a\"\\\n\x00\x1b[31m\x7fä\U0001f600\xff\u2028"), Total: 1234567 * time.Nanosecond},
			`{"time":"0001-01-01T00:00:00.000000Z","path":"/a\"\\\u000a\u0000\u001b[31m\u007f\u00e4\ud83d\ude00\ufffd\u2028","duration_ms":1.235,"received_bytes":0,"sent_bytes":0}`},
	} {
		if got := string(test.r.AppendJSON(nil)); got != test.want {
			t.Errorf("%s:\n%s\nwant\n%s", test.name, got, test.want)
		}
	}
	// Told has every field that a line has.
	d := json.NewDecoder(strings.NewReader(string(some().AppendJSON(nil))))
	d.DisallowUnknownFields()
	var told Told
	if err := d.Decode(&told); err != nil {
		t.Fatal(err)
	}
	back, err := json.Marshal(told)
	if err != nil {
		t.Fatal(err)
	}
	var a, b map[string]any
	if errors.Join(json.Unmarshal(back, &a), json.Unmarshal(some().AppendJSON(nil), &b)) != nil || !cmp.Equal(a, b) {
		t.Errorf("a line isn't the same once it was read: %s", cmp.Diff(a, b))
	}
}

// FuzzString: whatever comes from outside, a string is valid JSON, printable ASCII,
// and says what came.
func FuzzString(f *testing.F) {
	for _, s := range []string{"", "/a?b", "\x00\n\r\t\"\\", "ä\xff\xc0\x80\xed\xa0\x80", "\U0010ffff\U0001f600", "</script>", "\u2028", "\xf0\x9f\x98"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, v []byte) {
		out := AppendString([]byte("x"), v)[1:]
		for _, c := range out {
			if c < ' ' || c > '~' {
				t.Fatalf("%q has a byte %#x", out, c)
			}
		}
		var got string
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatalf("%q: %v", out, err)
		}
		if want := string([]rune(string(v))); got != want {
			t.Fatalf("%q, want %q", got, want)
		}
		if same := AppendString(nil, string(v)); string(same) != string(out) {
			t.Fatalf("as a string it is %q, as bytes %q", same, out)
		}
	})
}

// sink is an output whose lines can be counted, and which may hang or fail.
type sink struct {
	mu   sync.Mutex
	text strings.Builder
	err  error
	hold chan struct{} // nil: it doesn't hang
}

func (s *sink) Write(b []byte) (int, error) {
	if s.hold != nil {
		<-s.hold
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	return s.text.Write(b)
}

func (s *sink) lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Split(strings.TrimSuffix(s.text.String(), "\n"), "\n")
}

func metrics(r *Recorder) string {
	m := meter.New(1, "test")
	m.Collect(r.Collect)
	var out strings.Builder
	m.WriteText(&out)
	return out.String()
}

func TestModes(t *testing.T) {
	good := &Record{Status: 404, GRPC: -1, Decision: "allowed"}
	bad := []*Record{{Status: 500, GRPC: -1}, {Reason: "client_gone", GRPC: -1}, {Status: 403, Decision: "denied", GRPC: -1}, {Status: 200, Decision: "audit", GRPC: -1}}
	for _, test := range []struct {
		log  policy.AccessLog
		want int // of 1000 good ones and the bad ones
	}{
		{policy.AccessLog{}, 0},
		{policy.AccessLog{Mode: policy.LogFailed, Sample: 50}, len(bad)},
		{policy.AccessLog{Mode: policy.LogAll}, 1000 + len(bad)},
		{policy.AccessLog{Mode: policy.LogAll, Sample: 10}, 100 + len(bad)},
	} {
		out := &sink{}
		r := New(Config{Output: out, Loops: 1})
		r.Start()
		p := r.Pen(0)
		p.Set(test.log)
		if p.Wanted() != (test.log.Mode != policy.LogOff) {
			t.Errorf("%+v: wanted is %t", test.log, p.Wanted())
		}
		for i := range 1000 {
			p.Write(good, uint64(i))
		}
		for _, b := range bad {
			p.Write(b, 99)
		}
		r.Stop()
		got := len(out.lines())
		if out.text.Len() == 0 {
			got = 0
		}
		if got != test.want {
			t.Errorf("%+v: %d lines, want %d", test.log, got, test.want)
		}
	}
	if (*Pen)(nil).Wanted() {
		t.Error("a pen that isn't there wants records")
	}
	r := New(Config{Loops: 1}) // no output
	r.Pen(0).Set(policy.AccessLog{Mode: policy.LogAll})
	if r.Pen(0).Wanted() {
		t.Error("records are wanted, and there is nowhere to write them")
	}
	r.Start()
	r.Stop()
}

// TestWriter: every line of every loop arrives whole and in its loop's order, also
// over the ends of buffers; an output that hangs holds up nobody, and what is lost
// is counted.
func TestWriter(t *testing.T) {
	out := &sink{}
	r := New(Config{Output: out, Loops: 3})
	r.Start()
	const each = 5000
	var all sync.WaitGroup
	for i := range 3 {
		p := r.Pen(i)
		p.Set(policy.AccessLog{Mode: policy.LogAll})
		all.Go(func() {
			rec := some()
			rec.Listener = string(rune('a' + i))
			for n := range each {
				rec.Tries = n + 1
				for p.ring.used() > ringSize-4096 { // what a busy loop doesn't do
					time.Sleep(time.Millisecond)
				}
				p.Write(rec, 0)
			}
		})
	}
	all.Wait()
	r.Stop()
	next := map[string]int{}
	for _, line := range out.lines() {
		var told Told
		if err := json.Unmarshal([]byte(line), &told); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if next[told.Listener]++; told.Tries != next[told.Listener] {
			t.Fatalf("loop %s: line %d came when %d was due", told.Listener, told.Tries, next[told.Listener])
		}
	}
	for _, name := range []string{"a", "b", "c"} {
		if next[name] != each {
			t.Errorf("loop %s: %d lines, want %d", name, next[name], each)
		}
	}
	if text := metrics(r); !strings.Contains(text, `tulle_access_log_lines_total{result="written"} 15000`) || !strings.Contains(text, `tulle_access_log_lines_total{result="dropped"} 0`) {
		t.Error(text)
	}

	hangs := &sink{hold: make(chan struct{})}
	r = New(Config{Output: hangs, Loops: 1})
	r.Start()
	p := r.Pen(0)
	p.Set(policy.AccessLog{Mode: policy.LogAll})
	line := len(some().AppendJSON(nil)) + 1
	for range 2 * ringSize / line {
		p.Write(some(), 0)
	}
	if lost := r.dropped.Load(); lost < uint64(ringSize/line-2) {
		t.Errorf("%d lines are lost, want about %d", lost, ringSize/line)
	}
	close(hangs.hold)
	r.Stop()
	if n := len(hangs.lines()); uint64(n) != r.written.Load() || n != ringSize/line {
		t.Errorf("%d lines are there, %d counted, want %d", n, r.written.Load(), ringSize/line)
	}

	fails := &sink{err: errors.New("no space")}
	r = New(Config{Output: fails, Loops: 1})
	r.Start()
	r.Pen(0).Set(policy.AccessLog{Mode: policy.LogAll})
	r.Pen(0).Write(some(), 0)
	r.Stop()
	if r.written.Load() != 0 || r.dropped.Load() != 1 {
		t.Errorf("an output that fails: %d written, %d lost", r.written.Load(), r.dropped.Load())
	}
	long := some()
	long.Path = []byte(strings.Repeat("\x00", maxLine))
	r.Pen(0).add(append(long.AppendJSON(nil), '\n'))
	if r.dropped.Load() != 2 {
		t.Error("a line over the bound isn't counted as lost")
	}
}

// TestWakes: the writer sleeps while there is nothing, and one line wakes it.
func TestWakes(t *testing.T) {
	out := &sink{}
	r := New(Config{Output: out, Loops: 1})
	r.Start()
	defer r.Stop()
	r.Pen(0).Set(policy.AccessLog{Mode: policy.LogAll})
	for n := uint64(1); n <= 3; n++ {
		for end := time.Now().Add(wait); !r.asleep.Load(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the writer doesn't sleep")
			}
		}
		r.Pen(0).Write(some(), 0)
		for end := time.Now().Add(wait); r.written.Load() != n; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("line %d isn't written", n)
			}
		}
	}
}

func TestNoAllocations(t *testing.T) {
	r := New(Config{Output: &sink{}, Loops: 1}) // not started: nobody else allocates
	p, rec := r.Pen(0), some()
	p.Set(policy.AccessLog{Mode: policy.LogAll})
	p.Write(rec, 0)
	if n := testing.AllocsPerRun(1000, func() {
		p.Write(rec, 0)
		p.ring.took(p.ring.used())
	}); n != 0 {
		t.Errorf("a line costs %v allocations", n)
	}
	p.Set(policy.AccessLog{})
	if n := testing.AllocsPerRun(1000, func() {
		if p.Wanted() {
			t.Fatal("wanted")
		}
	}); n != 0 {
		t.Errorf("no line costs %v allocations", n)
	}
	tap, err := r.Tap(Filter{Path: "/other"})
	if err != nil {
		t.Fatal(err)
	}
	defer tap.Close()
	if n := testing.AllocsPerRun(1000, func() { p.Write(rec, 0) }); n != 0 {
		t.Errorf("what a tap doesn't want costs %v allocations", n)
	}
}

func BenchmarkWrite(b *testing.B) {
	r := New(Config{Output: &sink{}, Loops: 1})
	p, rec := r.Pen(0), some()
	p.Set(policy.AccessLog{Mode: policy.LogAll})
	b.ReportAllocs()
	for b.Loop() {
		p.Write(rec, 0)
		p.ring.took(p.ring.used())
	}
}

func TestFilter(t *testing.T) {
	r := some()
	for _, test := range []struct {
		query string
		want  bool
	}{
		{"", true},
		{"direction=inbound", true}, {"direction=edge", false},
		{"to=cart.default", true}, {"to=cart.default:8080", true}, {"to=cart.default:80", false}, {"to=cart.def", false}, {"to=cart", false},
		{"from=web.default", true}, {"from=spiffe://mesh.local/ns/default/sa/web", true}, {"from=web", false}, {"from=eb.default", false}, {"from=web.other", false},
		{"method=GET", true}, {"method=get", false},
		{"path=/it", true}, {"path=/items", true}, {"path=/items/1", false},
		{"status=503", true}, {"status=5xx", true}, {"status=502", false}, {"status=4xx", false},
		{"denied=true", true}, {"failed=true", true},
		{"method=GET&status=200", false},
	} {
		v, err := url.ParseQuery(test.query)
		if err != nil {
			t.Fatal(err)
		}
		f, err := ParseFilter(v)
		if err != nil {
			t.Errorf("%s: %v", test.query, err)
			continue
		}
		if f.match(r) != test.want {
			t.Errorf("%s: %t", test.query, !test.want)
		}
		if again, err := ParseFilter(f.Values()); err != nil || again != f {
			t.Errorf("%s: it is %+v, read again %+v, %v", test.query, f, again, err)
		}
	}
	good := &Record{Status: 200, Decision: "allowed", Protocol: "tcp"}
	for _, f := range []Filter{{Denied: true}, {Failed: true}, {From: "web.default"}, {Path: "/"}, {Status: "5xx"}} {
		if f.match(good) {
			t.Errorf("%+v admits %+v", f, good)
		}
	}
	if (&Filter{Status: "2xx"}).match(&Record{}) {
		t.Error("no status is one")
	}
	for _, query := range []string{"direction=in", "status=50", "status=999", "status=5x1", "rate=0", "rate=1001", "rate=x", "path=" + strings.Repeat("x", maxValue+1)} {
		v, _ := url.ParseQuery(query)
		if _, err := ParseFilter(v); err == nil {
			t.Errorf("%.20s is taken", query)
		}
	}
}

func TestTap(t *testing.T) {
	r := New(Config{Loops: 2})
	p := r.Pen(0)
	if p.Wanted() {
		t.Error("records are wanted")
	}
	var list []*Tap
	for range maxTaps {
		tap, err := r.Tap(Filter{Rate: 3})
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, tap)
	}
	if _, err := r.Tap(Filter{}); !errors.Is(err, ErrTooMany) {
		t.Errorf("one tap too many: %v", err)
	}
	if text := metrics(r); !strings.Contains(text, "tulle_taps 4\n") {
		t.Error(text)
	}
	rec := some()
	for i := range 10 { // of one second, on two loops
		r.Pen(i%2).Write(rec, 0)
	}
	for _, tap := range list {
		if len(tap.Lines()) != 3 || tap.Missed() != 7 || tap.Missed() != 0 {
			t.Errorf("%d lines are there of 3", len(tap.Lines()))
		}
	}
	if line := <-list[0].Lines(); string(line) != string(rec.AppendJSON(nil))+"\n" {
		t.Errorf("%q", line)
	}
	rec.At = rec.At.Add(time.Second)
	p.Write(rec, 0)
	if len(list[0].Lines()) != 3 {
		t.Error("a new second brings no new line")
	}
	for _, tap := range list[1:] {
		tap.Close()
		tap.Close()
	}
	if !p.Wanted() {
		t.Error("records aren't wanted, and somebody watches")
	}
	list[0].Close()
	if p.Wanted() {
		t.Error("records are wanted when nobody watches any more")
	}
	tap, err := r.Tap(Filter{Rate: MaxRate})
	if err != nil {
		t.Fatal(err)
	}
	for range tapQueue + 5 { // nobody reads
		p.Write(rec, 0)
	}
	if n := tap.Missed(); n != 5 {
		t.Errorf("%d are missed, want 5", n)
	}
	r.Stop()
	select {
	case <-tap.Over():
	default:
		t.Error("the proxy has ended and the tap hasn't")
	}
	tap.Close()
	if _, err := r.Tap(Filter{}); err == nil {
		t.Error("a proxy that has ended takes a tap")
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	f, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.max = 20
	for _, s := range []string{"one one one\n", "two two two two\n", "three\n", "four four four four\n"} {
		if n, err := f.Write([]byte(s)); err != nil || n != len(s) {
			t.Fatalf("%q: %d, %v", s, n, err)
		}
	}
	for name, want := range map[string]string{path: "four four four four\n", path + ".1": "three\n"} {
		if got, err := os.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
	// Somebody renames it, removes it, cuts it.
	write := func(s string) {
		t.Helper()
		f.looked = time.Time{}
		if n, err := f.Write([]byte(s)); err != nil || n != len(s) {
			t.Fatalf("%q: %d, %v", s, n, err)
		}
	}
	read := func(name, want string) {
		t.Helper()
		if got, err := os.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
	f.max = maxFile
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	f.looked = time.Now().Add(time.Hour) // it needn't look so soon
	if _, err := f.Write([]byte("five\n")); err != nil {
		t.Fatal(err)
	}
	read(path+".old", "four four four four\nfive\n")
	f.Reopen() // unless it is told
	if _, err := f.Write([]byte("six\n")); err != nil {
		t.Fatal(err)
	}
	read(path, "six\n")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	write("seven\n")
	read(path, "seven\n")
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	f.max = 12
	write("eight\n")
	read(path, "eight\n")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := OpenFile(filepath.Join(path, "x")); err == nil {
		t.Error("a path that can't be is opened")
	}
}
