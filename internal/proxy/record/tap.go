package record

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxTaps bounds those who watch one proxy at the same time.
	maxTaps = 4
	// MaxRate bounds the records that one of them gets in a second, DefaultRate is
	// what they get unless they ask for something else.
	MaxRate     = 1000
	DefaultRate = 100
	// MaxTime bounds how long one tap lasts.
	MaxTime = time.Hour
	// tapQueue is how many lines may wait for who watches.
	tapQueue = 256
	// maxValue bounds a value to filter by, in bytes.
	maxValue = 256
)

// ErrTooMany is what Tap returns when there are as many taps as there may be.
var ErrTooMany = fmt.Errorf("%d taps are at this proxy: as many as there may be", maxTaps)

// Filter says which records a tap wants; what is empty or zero admits all.
type Filter struct {
	// Direction is inbound, outbound or edge.
	Direction string
	// To is a service, "cart.default" or with a port.
	To string
	// From is a caller: ACCOUNT.NAMESPACE, or a SPIFFE id.
	From   string
	Method string
	// Path is a prefix.
	Path string
	// Status is a status or a class, "503" or "5xx".
	Status string
	// Denied wants what access rules refuse or, in audit, would; Failed what went
	// badly.
	Denied, Failed bool
	// Rate bounds the records in a second; 0 is DefaultRate.
	Rate int
}

// ParseFilter reads a filter from the parameters of a query; the keys are the
// fields' names in lower case.
func ParseFilter(v url.Values) (Filter, error) {
	f := Filter{Direction: v.Get("direction"), To: v.Get("to"), From: v.Get("from"), Method: v.Get("method"), Path: v.Get("path"), Status: v.Get("status"),
		Denied: v.Get("denied") == "true", Failed: v.Get("failed") == "true"}
	for _, s := range []string{f.To, f.From, f.Method, f.Path} {
		if len(s) > maxValue {
			return f, fmt.Errorf("%.20q...: want at most %d bytes", s, maxValue)
		}
	}
	switch f.Direction {
	case "", "inbound", "outbound", "edge":
	default:
		return f, fmt.Errorf("direction %.40q: want inbound, outbound or edge", f.Direction)
	}
	if s := f.Status; s != "" && (len(s) != 3 || s[0] < '1' || s[0] > '5' || s[1:] != "xx" && !digits(s[1:])) {
		return f, fmt.Errorf("status %.40q: want a status or a class, such as 503 or 5xx", s)
	}
	if text := v.Get("rate"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > MaxRate {
			return f, fmt.Errorf("rate %.40q: want 1 to %d records a second", text, MaxRate)
		}
		f.Rate = n
	}
	return f, nil
}

func digits(s string) bool { return strings.Trim(s, "0123456789") == "" }

// Values is the filter as ParseFilter reads it.
func (f *Filter) Values() url.Values {
	v := url.Values{}
	for key, value := range map[string]string{"direction": f.Direction, "to": f.To, "from": f.From, "method": f.Method, "path": f.Path, "status": f.Status} {
		if value != "" {
			v.Set(key, value)
		}
	}
	if f.Denied {
		v.Set("denied", "true")
	}
	if f.Failed {
		v.Set("failed", "true")
	}
	if f.Rate > 0 {
		v.Set("rate", strconv.Itoa(f.Rate))
	}
	return v
}

func (f *Filter) match(r *Record) bool {
	switch {
	case f.Direction != "" && f.Direction != r.Direction,
		f.To != "" && r.Service != f.To && !(strings.HasPrefix(r.Service, f.To) && r.Service[len(f.To)] == ':'),
		f.From != "" && !isFrom(r.Source, f.From),
		f.Method != "" && string(r.Method) != f.Method,
		f.Path != "" && (len(r.Path) < len(f.Path) || string(r.Path[:len(f.Path)]) != f.Path),
		f.Status != "" && !isStatus(r.Status, f.Status),
		f.Denied && (r.Decision == "" || r.Decision == "allowed"),
		f.Failed && !r.Failed():
		return false
	}
	return true
}

// isFrom compares a SPIFFE id with one, or with ACCOUNT.NAMESPACE.
func isFrom(id, from string) bool {
	if id == from {
		return id != ""
	}
	_, path, ok := strings.Cut(id, "/ns/")
	namespace, account, found := strings.Cut(path, "/sa/")
	n := len(account)
	return ok && found && len(from) == n+1+len(namespace) && from[:n] == account && from[n] == '.' && from[n+1:] == namespace
}

func isStatus(status int, want string) bool {
	if status < 100 || status > 999 || byte('0'+status/100) != want[0] {
		return false
	}
	return want[1] == 'x' || byte('0'+status/10%10) == want[1] && byte('0'+status%10) == want[2]
}

// Tap is somebody who watches the proxy's requests. Its methods may be called from
// anywhere.
type Tap struct {
	recorder *Recorder
	filter   Filter
	lines    chan []byte
	over     chan struct{}
	once     sync.Once

	second, n atomic.Int64
	missed    atomic.Uint64
}

// Tap begins to watch; Close ends that. The error is ErrTooMany.
func (r *Recorder) Tap(f Filter) (*Tap, error) {
	if f.Rate <= 0 {
		f.Rate = DefaultRate
	}
	t := &Tap{recorder: r, filter: f, lines: make(chan []byte, tapQueue), over: make(chan struct{})}
	r.tapsMu.Lock()
	defer r.tapsMu.Unlock()
	select {
	case <-r.stop:
		return nil, errors.New("the proxy is ending")
	default:
	}
	var list []*Tap
	if old := r.taps.Load(); old != nil {
		list = *old
	}
	if len(list) >= maxTaps {
		return nil, ErrTooMany
	}
	list = append(list[:len(list):len(list)], t)
	r.taps.Store(&list)
	return t, nil
}

// Lines are the records, each a JSON object with a newline.
func (t *Tap) Lines() <-chan []byte { return t.lines }

// Over is closed when the tap has ended.
func (t *Tap) Over() <-chan struct{} { return t.over }

// Missed returns how many records there were no more lines for, and forgets it.
func (t *Tap) Missed() uint64 { return t.missed.Swap(0) }

func (t *Tap) end() { t.once.Do(func() { close(t.over) }) }

// Close ends the tap.
func (t *Tap) Close() {
	r := t.recorder
	r.tapsMu.Lock()
	defer r.tapsMu.Unlock()
	t.end()
	old := r.taps.Load()
	if old == nil {
		return
	}
	var list []*Tap
	for _, other := range *old {
		if other != t {
			list = append(list, other)
		}
	}
	if list == nil {
		r.taps.Store(nil)
		return
	}
	r.taps.Store(&list)
}

// take reports whether one more may be in this second.
func (t *Tap) take(now time.Time) bool {
	s := now.Unix()
	if old := t.second.Load(); old != s && t.second.CompareAndSwap(old, s) {
		t.n.Store(0) // another loop may be a little late or early: a record more or less
	}
	if t.n.Add(1) <= int64(t.filter.Rate) {
		return true
	}
	t.missed.Add(1)
	return false
}

func (t *Tap) add(line []byte) {
	select {
	case t.lines <- bytes.Clone(line):
	default:
		t.missed.Add(1)
	}
}
