package l7http

import (
	"net/netip"
	"testing"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/dial"
	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/proxy/sim"
	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/h1"
)

// tried is an exchange with so many tries behind it, all of them at endpoints
// that are all there are.
func tried(t *testing.T, p *policy.Request, tries int) *Exchange {
	t.Helper()
	l := loop.New(sim.New(1, sim.Weather{}, nil).Poller("host", netip.MustParseAddr("10.0.0.2")), 0, 1)
	c := dial.NewCluster("a.b:1", meter.Outbound, meter.New(1, "test").Shard(0))
	c.Update(&view.Endpoints{Key: "a.b:1", List: []view.Endpoint{{Address: netip.MustParseAddrPort("10.0.0.1:80")}}})
	x := &Exchange{exchangeState: exchangeState{Policy: p, Cluster: c, worker: &Worker{Loop: l}, tries: tries}}
	x.failed.Add(c.Endpoints()[0])
	return x
}

// Pauses are drawn from the whole of what they may be, which doubles with each
// try up to its bound; what the endpoint asks for comes on top.
func TestPause(t *testing.T) {
	backoff := func(least, first, most time.Duration) *policy.Request {
		return &policy.Request{Retry: policy.Retry{MinBackoff: least, Backoff: first, MaxBackoff: most, MaxRetryAfter: 10 * time.Second}}
	}
	const ms = time.Millisecond
	for _, test := range []struct {
		name        string
		p           *policy.Request
		tries       int
		after       time.Duration
		least, most time.Duration
	}{
		{"first", backoff(0, 25*ms, 250*ms), 1, 0, 0, 25 * ms},
		{"second", backoff(0, 25*ms, 250*ms), 2, 0, 0, 50 * ms},
		{"fifth", backoff(0, 25*ms, 250*ms), 5, 0, 0, 250 * ms},
		{"eleventh", backoff(0, time.Hour, 2*time.Hour), 11, 0, 0, 2 * time.Hour},
		{"not below", backoff(20*ms, 25*ms, 250*ms), 1, 0, 20 * ms, 25 * ms},
		{"exactly", backoff(100*ms, 100*ms, 100*ms), 3, 0, 100 * ms, 100 * ms},
		{"at once", backoff(0, 0, 0), 3, 0, 0, 0},
		{"asked for", backoff(0, 25*ms, 250*ms), 1, time.Second, time.Second, time.Second + 25*ms},
		{"as long as may be asked for", backoff(0, 0, 0), 1, 10 * time.Second, 10 * time.Second, 10 * time.Second},
		{"longer", backoff(0, 0, 0), 1, 11 * time.Second, -1, -1},
		{"none", backoff(0, 0, 0), 1, -1, -1, -1},
		{"nobody cares", &policy.Request{}, 1, time.Hour, 0, 0},
	} {
		x := tried(t, test.p, test.tries)
		least, most := time.Duration(1<<62), time.Duration(-1<<62)
		for range 2000 {
			d := x.pauseFor(policy.ServerError, test.after)
			least, most = min(least, d), max(most, d)
		}
		if spread := (test.most - test.least) / 50; least < test.least || most > test.most || least > test.least+spread || most < test.most-spread {
			t.Errorf("%s: %s to %s, want %s to %s", test.name, least, most, test.least, test.most)
		}
	}
	// Another endpoint may do at once what the last one couldn't begin.
	x := tried(t, backoff(time.Second, time.Second, time.Second), 1)
	x.failed = dial.Tried{}
	if d := x.pauseFor(policy.Unsent, 0); d != 0 {
		t.Errorf("%s before another endpoint is asked", d)
	}
}

func TestAsksAfter(t *testing.T) {
	x := tried(t, policy.DefaultRequest, 1)
	x.call = true
	date := string(h1.AppendDate(nil, x.worker.Loop.Wall().Add(90*time.Second).Unix()))
	past := string(h1.AppendDate(nil, x.worker.Loop.Wall().Add(-time.Hour).Unix()))
	for _, test := range []struct {
		name, value string
		want        time.Duration
	}{
		{"Retry-After", "3", 3 * time.Second},
		{"retry-after", "0", 0},
		{"retry-after", date, 90 * time.Second},
		{"retry-after", past, 0},
		{"retry-after", "soon", 0},
		{"retry-after", "-3", 0},
		{"retry-after", "99999999999999999999", 0},
		{"Grpc-Retry-Pushback-Ms", "250", 250 * time.Millisecond},
		{"grpc-retry-pushback-ms", "0", 1},
		{"grpc-retry-pushback-ms", "-1", -1},
		{"grpc-retry-pushback-ms", "x", -1},
		{"grpc-retry-pushback-ms", "", -1},
		{"other", "3", 0},
	} {
		got := x.asksAfter([]h1.Field{{Name: []byte("a")}, {Name: []byte(test.name), Value: []byte(test.value)}})
		if got < test.want-time.Second && test.want > time.Minute || got != test.want && test.want <= time.Minute || got > test.want {
			t.Errorf("%s: %q: %s, want %s", test.name, test.value, got, test.want)
		}
	}
}

// What is written of a time is never more than that, and hardly less.
func TestAppendTimeout(t *testing.T) {
	for d, want := range map[time.Duration]string{
		1: "1u", time.Microsecond: "1u", 1500 * time.Microsecond: "1500u", 99_999_999 * time.Microsecond: "99999999u",
		100 * time.Second: "100000m", 27 * time.Hour: "97200000m", 28 * time.Hour: "100800S", maxTimeout: "3600000S",
	} {
		if got := string(appendTimeout(nil, d)); got != want {
			t.Errorf("%s: %s, want %s", d, got, want)
		}
	}
}

// FuzzTimes reads what callers and endpoints say of time.
func FuzzTimes(f *testing.F) {
	for _, s := range []string{"3", "100m", "99999999H", "Mon, 02 Jan 2006 15:04:05 GMT", "-1", ""} {
		f.Add([]byte(s))
	}
	l := loop.New(sim.New(1, sim.Weather{}, nil).Poller("host", netip.MustParseAddr("10.0.0.2")), 0, 1)
	f.Fuzz(func(t *testing.T, v []byte) {
		x := &Exchange{exchangeState: exchangeState{worker: &Worker{Loop: l}}}
		x.call = true
		if d, ok := parseTimeout(v); ok {
			if d < 0 || d > maxTimeout {
				t.Errorf("grpc-timeout %q: %s", v, d)
			}
			b := appendTimeout(nil, max(d, 1))
			again, ok := parseTimeout(b)
			if !ok || again > max(d, time.Microsecond) || again < d-d/1000-time.Second {
				t.Errorf("grpc-timeout %q: %s becomes %s: %s", v, d, b, again)
			}
		}
		if d := x.retryAfter(v); d < 0 {
			t.Errorf("Retry-After %q: %s", v, d)
		}
		x.Request.Fields = []h1.Field{{Name: []byte("Tulle-Timeout"), Value: v}, {Name: []byte("grpc-timeout"), Value: v}}
		if x.survey(); x.tulleTime < 0 || x.grpcTime < 0 || !x.Request.Fields[0].Drop {
			t.Errorf("%q: %s and %s", v, x.tulleTime, x.grpcTime)
		}
	})
}

// A 425 is for the client that said that its request came early (RFC 8470, 5.2).
func TestTooEarly(t *testing.T) {
	p := &policy.Request{Retry: policy.Retry{On: policy.Statuses, Statuses: []uint16{425}}}
	for early, want := range map[bool]policy.Condition{false: policy.Statuses, true: 0} {
		x := tried(t, p, 1)
		x.Request.Reset()
		head := "GET / HTTP/1.1\r\nHost: a\r\n"
		if early {
			head += "Early-Data: 1\r\n"
		}
		if _, err := x.Request.Parse([]byte(head+"\r\n"), nil); err != nil {
			t.Fatal(err)
		}
		if got := x.unwanted(&h1.Response{Status: 425}); got != want {
			t.Errorf("Early-Data %v: another try for %v, want %v", early, got, want)
		}
	}
}
