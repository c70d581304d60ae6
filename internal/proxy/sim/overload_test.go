package sim_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/cryptotest"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/poll"
	"tulle.dev/tulle/internal/proxy/sim"
	"tulle.dev/tulle/internal/view"
)

// crowd is a program of 8 workers that take 10 ms for a request each, behind its
// sidecar and a gateway, and clients that ask for three times of what it can do
// without waiting for answers.
type crowd struct {
	world *sim.World
	rand  *rand.Rand

	// The program.
	program *program
	busy    int
	queue   []func()

	// The clients.
	clients *program
	to      netip.AddrPort
	idle    []*caller
	took    []time.Duration // of answers with status 200
	refused int
	other   int
}

const (
	crowdWorkers = 8
	crowdWork    = 10 * time.Millisecond
	crowdRate    = 3 * crowdWorkers * 100.0 // a second
	crowdTime    = 5 * time.Second
)

// caller is a client's connection.
type caller struct {
	crowd *crowd
	pipe  *pipe
	in    *message
	began time.Duration
}

func newCrowd(t *testing.T, loops int, p *policy.Overload) *crowd {
	if ca == nil {
		cryptotest.SetGlobalRandom(t, 0)
		ca = newAuthority()
	}
	cryptotest.SetGlobalRandom(t, 1)
	weather := sim.Weather{Latency: 50 * time.Microsecond, Jitter: 20 * time.Microsecond, Segment: 64 << 10, Window: 256 << 10, Buffer: 128 << 10, Backlog: 4096}
	c := &crowd{world: sim.New(1, weather, nil), rand: rand.New(rand.NewPCG(7, 7))}
	r := &run{seed: 1, world: c.world, plan: rand.New(rand.NewPCG(1, 1)), dead: -1, peer: view.PeerHTTP2}

	app := netip.AddrPortFrom(hostAddr(30), 8080)
	c.program = newProgram(c.world, "shop", app.Addr())
	c.program.serve(app, c.accept)

	mesh := netip.AddrPortFrom(hostAddr(30), 15443)
	r.startProxy("shop", mesh.Addr(), base("shop", view.Sidecar, shopID, view.HTTP, view.Listener{
		Name: "in", Kind: view.Inbound, Address: mesh, Destination: shopKey, App: app, Inbound: &policy.Inbound{Overload: p},
	}), loops)
	v := r.edgeView()
	v.Endpoints[shopKey].List = []view.Endpoint{{Address: mesh, Identity: shopID, Workload: "shop.default"}}
	r.startProxy("edge", hostAddr(1), v, loops)

	c.to = netip.AddrPortFrom(hostAddr(1), 80)
	c.clients = newProgram(c.world, "clients", hostAddr(9))
	c.arrive()
	if !c.world.Run(crowdTime, 100_000_000, nil) {
		t.Fatal("it goes round in circles")
	}
	return c
}

// accept serves one connection of the program.
func (c *crowd) accept(fd poll.FD) {
	p, in := c.program.open(fd), &message{}
	p.onEnd = func(error) { p.close(false) }
	p.onData = func(b []byte) {
		if err := in.add(b); err != nil {
			panic(err)
		}
		if !in.done {
			return
		}
		in = &message{}
		work := func() {
			c.world.After(crowdWork, func() {
				if !p.gone {
					p.write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
				}
				c.next()
			})
		}
		if c.busy == crowdWorkers {
			c.queue = append(c.queue, work)
			return
		}
		c.busy++
		work()
	}
}

// next gives a worker that is done the next request.
func (c *crowd) next() {
	if len(c.queue) == 0 {
		c.busy--
		return
	}
	work := c.queue[0]
	c.queue = c.queue[1:]
	work()
}

// arrive brings the next client, at random times.
func (c *crowd) arrive() {
	c.world.After(time.Duration(c.rand.ExpFloat64()/crowdRate*1e9), func() {
		c.arrive()
		if n := len(c.idle); n > 0 {
			caller := c.idle[n-1]
			c.idle = c.idle[:n-1]
			caller.ask()
			return
		}
		fd, err := c.clients.Connect(c.to)
		if err != nil {
			panic(err)
		}
		caller := &caller{crowd: c, pipe: c.clients.open(fd)}
		caller.pipe.onData, caller.pipe.onEnd = caller.data, func(error) {
			c.other++
			caller.pipe.close(false)
		}
		caller.ask()
	})
}

func (c *caller) ask() {
	c.in, c.began = &message{}, c.crowd.world.Now()
	c.pipe.write([]byte("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n"))
}

func (c *caller) data(b []byte) {
	if err := c.in.add(b); err != nil {
		panic(err)
	}
	if !c.in.done {
		return
	}
	switch c.in.status() {
	case 200:
		c.crowd.took = append(c.crowd.took, c.crowd.world.Now()-c.began)
	case 503:
		c.crowd.refused++
	default:
		c.crowd.other++
	}
	c.crowd.idle = append(c.crowd.idle, c)
}

func (c *crowd) p99() time.Duration {
	slices.Sort(c.took)
	return c.took[len(c.took)*99/100]
}

// TestOverload: asked for three times of what it can do, a program behind proxies
// does nearly all that it can, and whoever is let in is served soon; without
// shedding nobody is.
func TestOverload(t *testing.T) {
	capacity := crowdWorkers / crowdWork.Seconds()
	for _, loops := range []int{1, 4} {
		for _, queue := range []time.Duration{0, 50 * time.Millisecond} {
			if raceEnabled && queue == 0 {
				continue // the race detector is slow, and there is one goroutine
			}
			c := newCrowd(t, loops, &policy.Overload{Min: 4, Max: 1000, Tolerance: 200, Queue: queue})
			goodput, p99 := float64(len(c.took))/crowdTime.Seconds(), c.p99()
			t.Logf("%d loops, queue %s: %.0f answers a second of %.0f, p99 %s, %d refused", loops, queue, goodput, capacity, p99, c.refused)
			if goodput < 0.9*capacity || p99 > 5*crowdWork || c.other > 0 {
				t.Errorf("want at least %.0f a second and at most %s; %d answers of another kind", 0.9*capacity, 5*crowdWork, c.other)
			}
		}
	}
	c := newCrowd(t, 1, nil)
	t.Logf("without shedding: %.0f answers a second, p99 %s", float64(len(c.took))/crowdTime.Seconds(), c.p99())
	if c.p99() < time.Second {
		t.Error("without shedding it isn't overloaded")
	}
}
