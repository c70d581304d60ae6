package dial

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tulle.dev/tulle/internal/proxy/balance"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/view"
)

// spare is a pooled connection.
type spare struct {
	name    int
	stale   bool
	rested  time.Duration
	retired bool
}

func (s *spare) Rested() (time.Duration, bool) { return s.rested, !s.stale }
func (s *spare) Retire()                       { s.retired = true }

// TestPool: the one used last comes first, stale ones never, and a full pool
// lets its oldest go.
func TestPool(t *testing.T) {
	var e balance.Endpoint
	p := PoolOf(&e)
	if PoolOf(&e) != p {
		t.Fatal("an endpoint has two pools")
	}
	if c := p.Get(time.Second, false); c != nil {
		t.Fatalf("an empty pool gave %v", c)
	}
	all := make([]*spare, maxIdle+3)
	for i := range all {
		all[i] = &spare{name: i}
		p.Put(all[i])
	}
	if p.Len() != maxIdle {
		t.Errorf("%d idle connections, want %d", p.Len(), maxIdle)
	}
	for i, s := range all {
		if s.retired != (i < 3) {
			t.Errorf("connection %d retired: %v", i, s.retired)
		}
	}
	last := len(all) - 1
	all[last].stale = true
	if c := p.Get(time.Second, false).(*spare); c.name != last-1 {
		t.Errorf("got connection %d, want %d", c.name, last-1)
	}
	if !all[last].retired {
		t.Error("a stale connection wasn't retired")
	}
	p.Remove(all[last-2])
	if c := p.Get(time.Second, false).(*spare); c.name != last-3 {
		t.Errorf("got connection %d, want %d", c.name, last-3)
	}
	p.Drop()
	if p.Len() != 0 || !all[5].retired {
		t.Error("Drop left connections")
	}
}

// TestClusterUpdate: an endpoint that leaves takes its idle connections along;
// one that stays keeps them.
func TestClusterUpdate(t *testing.T) {
	at := func(port uint16) view.Endpoint {
		return view.Endpoint{Address: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)}
	}
	c := NewCluster("cart.default:8080", meter.Outbound, meter.New(1, "test").Shard(0))
	if c.Known() {
		t.Error("known before it was told")
	}
	c.Update(&view.Endpoints{List: []view.Endpoint{at(1), at(2)}})
	stays, leaves := &spare{}, &spare{}
	for _, e := range c.Endpoints() {
		if e.Address.Port() == 1 {
			PoolOf(e).Put(stays)
		} else {
			PoolOf(e).Put(leaves)
		}
	}
	c.Update(&view.Endpoints{List: []view.Endpoint{at(1), at(3)}})
	if stays.retired || !leaves.retired {
		t.Errorf("stays retired: %v, leaves retired: %v", stays.retired, leaves.retired)
	}
	var ports []uint16
	for _, e := range c.Endpoints() {
		ports = append(ports, e.Address.Port())
	}
	if slices.Sort(ports); !slices.Equal(ports, []uint16{1, 3}) {
		t.Errorf("endpoints at %v", ports)
	}
}

func TestReason(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{ErrTimeout, "connection_timeout"},
		{ErrSelf, "proxy_loop_detected"},
		{&TLSError{errors.New("x")}, "tls_certificate_error"},
		{fmt.Errorf("connect: %w", unix.ECONNREFUSED), "connection_refused"},
		{fmt.Errorf("connect: %w", unix.ENETUNREACH), "destination_ip_unroutable"},
	} {
		if got := Reason(test.err); got != test.want {
			t.Errorf("%v: %s, want %s", test.err, got, test.want)
		}
	}
}
