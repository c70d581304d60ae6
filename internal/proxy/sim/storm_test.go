package sim_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/cryptotest"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/poll"
	"tulle.dev/tulle/internal/proxy/sim"
	"tulle.dev/tulle/internal/view"
)

// farm is ten programs behind a gateway, some of whose answers are 503, and
// clients that ask a thousand times a second.
type farm struct {
	rate  float64 // requests a second
	world *sim.World
	rand  *rand.Rand
	bad   func(endpoint int) bool // draws whether the next answer is 503

	clients         *program
	idle            []*farmer
	asked, arrived  int
	well, ill, gone int
	took            []took
}

const (
	farmEndpoints = 10
	farmRate      = 1000.0 // a second
	farmTime      = 12 * time.Second
)

// took is when an answer came, and after how long.
type took struct{ at, after time.Duration }

// farmer is a client's connection.
type farmer struct {
	farm  *farm
	pipe  *pipe
	in    *message
	began time.Duration
}

// newFarm runs one with ejection off.
func newFarm(t *testing.T, loops int, p *policy.Request, bad func(*rand.Rand, int) bool) *farm {
	f := plantFarm(t, loops, p, &policy.Upstream{Ejection: policy.Ejection{Off: true}}, bad)
	f.run(t, farmTime)
	return f
}

func (f *farm) run(t *testing.T, d time.Duration) {
	f.arrive()
	if !f.world.Run(d, 100_000_000, nil) {
		t.Fatal("it goes round in circles")
	}
}

func plantFarm(t *testing.T, loops int, p *policy.Request, up *policy.Upstream, bad func(*rand.Rand, int) bool) *farm {
	if ca == nil {
		cryptotest.SetGlobalRandom(t, 0)
		ca = newAuthority()
	}
	cryptotest.SetGlobalRandom(t, 1)
	weather := sim.Weather{Latency: 50 * time.Microsecond, Jitter: 20 * time.Microsecond, Segment: 64 << 10, Window: 256 << 10, Buffer: 128 << 10, Backlog: 4096}
	f := &farm{rate: farmRate, world: sim.New(1, weather, nil), rand: rand.New(rand.NewPCG(5, 5))}
	f.bad = func(i int) bool { return bad(f.rand, i) }
	r := &run{seed: 1, world: f.world, plan: rand.New(rand.NewPCG(1, 1)), dead: -1, peer: view.PeerHTTP2, policy: p}
	v := r.edgeView()
	v.Endpoints[shopKey].Policy = up
	for i := range farmEndpoints {
		at := netip.AddrPortFrom(hostAddr(byte(30+i)), 8080)
		app := newProgram(f.world, fmt.Sprintf("shop%d", i), at.Addr())
		app.serve(at, func(fd poll.FD) { f.accept(app, fd, i) })
		v.Endpoints[shopKey].List = append(v.Endpoints[shopKey].List, view.Endpoint{Address: at})
	}
	r.startProxy("edge", hostAddr(1), v, loops)
	f.clients = newProgram(f.world, "clients", hostAddr(9))
	return f
}

// accept serves one connection of a program.
func (f *farm) accept(app *program, fd poll.FD, i int) {
	p, in := app.open(fd), &message{}
	p.onEnd = func(error) { p.close(false) }
	p.onData = func(b []byte) {
		if err := in.add(b); err != nil {
			panic(err)
		}
		if !in.done {
			return
		}
		in = &message{}
		f.arrived++
		answer := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
		if f.bad(i) {
			answer = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\n\r\nbad"
		}
		f.world.After(2*time.Millisecond, func() {
			if !p.gone {
				p.write([]byte(answer))
			}
		})
	}
}

// arrive brings the next client, at random times.
func (f *farm) arrive() {
	f.world.After(time.Duration(f.rand.ExpFloat64()/f.rate*1e9), func() {
		f.arrive()
		f.asked++
		c := (*farmer)(nil)
		if n := len(f.idle); n > 0 {
			c, f.idle = f.idle[n-1], f.idle[:n-1]
		} else {
			fd, err := f.clients.Connect(netip.AddrPortFrom(hostAddr(1), 80))
			if err != nil {
				panic(err)
			}
			c = &farmer{farm: f, pipe: f.clients.open(fd)}
			c.pipe.onData, c.pipe.onEnd = c.data, func(error) {
				f.gone++
				c.pipe.close(false)
			}
		}
		c.in, c.began = &message{}, f.world.Now()
		c.pipe.write([]byte("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n"))
	})
}

func (c *farmer) data(b []byte) {
	if err := c.in.add(b); err != nil {
		panic(err)
	}
	if !c.in.done {
		return
	}
	now := c.farm.world.Now()
	c.farm.took = append(c.farm.took, took{now, now - c.began})
	if c.in.status() == 200 {
		c.farm.well++
	} else {
		c.farm.ill++
	}
	c.farm.idle = append(c.farm.idle, c)
}

// One of ten endpoints answers 30 % with 503 and is not ejected: with tries on
// 5xx clients hardly ever notice, and the endpoints get little more to do. When
// everything fails, further tries stay within the budget.
func TestStorm(t *testing.T) {
	p := &policy.Request{Retry: policy.DefaultRetry}
	p.Retry.On |= policy.ServerError
	for _, loops := range []int{1, 4} {
		f := newFarm(t, loops, p, func(r *rand.Rand, i int) bool { return i == 0 && r.IntN(10) < 3 })
		success, load := float64(f.well)/float64(f.well+f.ill), float64(f.arrived)/float64(f.asked)
		t.Logf("%d loops, one of ten ill: %d asked, success %.5f, load %.4f", loops, f.asked, success, load)
		if success < 0.999 || load > 1.05 || f.gone > 0 || f.well+f.ill < f.asked-100 {
			t.Errorf("want success of at least 0.999 and a load of at most 1.05; %d answers, %d connections broke", f.well+f.ill, f.gone)
		}

		f = newFarm(t, loops, p, func(*rand.Rand, int) bool { return true })
		load = float64(f.arrived) / float64(f.asked)
		t.Logf("%d loops, all ill: %d asked, load %.4f", loops, f.asked, load)
		if load > 1.21 || load < 1.15 || f.well > 0 || f.gone > 0 {
			t.Errorf("want a load of at most 1.2; %d answers, %d connections broke", f.ill, f.gone)
		}
	}
}

// The host of an endpoint goes without a word. With nothing said no request is
// lost: those that wait for it get their answer elsewhere once the kernel has
// noticed, and soon nobody is sent there any more.
func TestHostGone(t *testing.T) {
	const gone, noticed = 5 * time.Second, 12 * time.Second
	for _, loops := range []int{1, 4} {
		f := plantFarm(t, loops, nil, nil, func(*rand.Rand, int) bool { return false })
		f.rate = 200
		f.world.After(gone, func() { f.world.Vanish("shop0") })
		f.run(t, 28*time.Second)
		longest, late := time.Duration(0), 0
		for _, a := range f.took {
			longest = max(longest, a.after)
			if a.at-a.after > gone+noticed && a.after > 100*time.Millisecond {
				late++
			}
		}
		t.Logf("%d loops: %d asked, the longest took %s, %d took long after it was noticed", loops, f.asked, longest, late)
		if f.ill > 0 || f.gone > 0 || f.well < f.asked-5 {
			t.Errorf("%d asked, %d well, %d ill, %d connections broke", f.asked, f.well, f.ill, f.gone)
		}
		if longest > noticed+time.Second || late > 3*loops {
			t.Errorf("the longest took %s, %d took long after it was noticed", longest, late)
		}
	}
}
