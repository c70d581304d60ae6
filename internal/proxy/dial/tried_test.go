package dial

import (
	"net/netip"
	"testing"

	"tulle.dev/tulle/internal/proxy/balance"
	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/proxy/sim"
	"tulle.dev/tulle/internal/view"
)

func endpoints(ports ...uint16) *view.Endpoints {
	e := &view.Endpoints{Key: "a.b:1"}
	for _, p := range ports {
		e.List = append(e.List, view.Endpoint{Address: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), p)})
	}
	return e
}

// However the endpoints change, an attempt goes to one that wasn't tried while
// there is one.
func TestTried(t *testing.T) {
	w := sim.New(1, sim.Weather{}, nil)
	l := loop.New(w.Poller("host", netip.MustParseAddr("10.0.0.2")), 0, 1)
	c := NewCluster("a.b:1", meter.Outbound, meter.New(1, "test").Shard(0))
	c.Update(endpoints(1, 2, 3))

	for range 100 {
		var tried Tried
		seen := map[*balance.Endpoint]bool{}
		for range MaxTries {
			if !c.Untried(&tried) {
				t.Fatal("no endpoint is left before all were tried")
			}
			e := c.Pick(l, &tried, balance.Want{})
			if seen[e] {
				t.Fatalf("%s is tried twice", e.Address)
			}
			seen[e] = true
			tried.Add(e)
		}
		if c.Untried(&tried) {
			t.Fatal("an endpoint is left after all were tried")
		}
		if c.Pick(l, &tried, balance.Want{}) == nil {
			t.Fatal("nothing is picked when all were tried")
		}
	}

	// The one that was tried leaves, the one that stays is another.
	c.Update(endpoints(1, 2))
	var tried Tried
	gone := c.Endpoints()[0]
	tried.Add(gone)
	c.Update(endpoints(2))
	if !c.Untried(&tried) || c.Pick(l, &tried, balance.Want{}) == gone {
		t.Error("the endpoint that is left counts as tried")
	}
	c.Update(endpoints())
	if c.Untried(&tried) || c.Pick(l, &tried, balance.Want{}) != nil {
		t.Error("there is an endpoint where there is none")
	}
}
