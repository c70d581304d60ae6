package proxy_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/view"
)

// insideNamespace says to the test binary that it has a network of its own.
const insideNamespace = "TULLE_TEST_DEAD_HOST"

const otherKey = "other.default:80"

// A host whose link is cut says nothing any more, no RST either. Under load that is
// noticed within seconds, only what was under way there is lost, its endpoints of
// other services are suspected before anybody asks them, and when the link is there
// again, so is the traffic.
func TestDeadHost(t *testing.T) {
	if os.Getenv(insideNamespace) == "" {
		isolated(t)
		return
	}
	for _, loops := range []int{1, 4} {
		t.Run(fmt.Sprintf("loops=%d", loops), func(t *testing.T) { deadHost(t, loops) })
	}
}

// isolated runs the test once more, in a process with a network of its own.
func isolated(t *testing.T) {
	attributes := func() *syscall.SysProcAttr {
		a := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
		if os.Geteuid() != 0 {
			a.Cloneflags |= syscall.CLONE_NEWUSER
			a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
			a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
		}
		return a
	}
	runtime.LockOSThread() // the child's life depends on the thread's
	defer runtime.UnlockOSThread()
	probe := exec.Command("/bin/true")
	probe.SysProcAttr = attributes()
	if err := probe.Run(); err != nil {
		t.Skipf("no network namespaces here (%v): run as root, or allow unprivileged user namespaces", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestDeadHost$", "-test.v", "-test.timeout=10m")
	c.Env = append(os.Environ(), insideNamespace+"=1")
	c.SysProcAttr = attributes()
	out, err := c.CombinedOutput()
	t.Logf("%s", out)
	if err != nil || !strings.Contains(string(out), "--- PASS: TestDeadHost") {
		t.Errorf("in its own network: %v", err)
	}
}

// host is a machine at the other end of a cable.
type host struct {
	name string
	ns   int // its network namespace
	at   netip.Addr
}

// plugIn makes a host and a cable to it: its address ends in 2, ours in 1.
func plugIn(t *testing.T, name string, third int) *host {
	t.Helper()
	h := &host{name: name, at: netip.AddrFrom4([4]byte{10, 77, byte(third), 2}), ns: -1}
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %s: %v", name, what, err)
		}
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		var err error
		h.ns, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		done <- err
	}()
	check("a namespace", <-done)
	t.Cleanup(func() { unix.Close(h.ns) })
	a := netlink.NewLinkAttrs()
	a.Name = name
	check("a cable", netlink.LinkAdd(&netlink.Veth{LinkAttrs: a, PeerName: "cable", PeerNamespace: netlink.NsFd(h.ns)}))
	ours, err := netlink.LinkByName(name)
	check("our end", err)
	t.Cleanup(func() { netlink.LinkDel(ours) })
	give := func(l netlink.Link, last int) error {
		own, err := netlink.ParseAddr(fmt.Sprintf("10.77.%d.%d/24", third, last))
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(l, own); err != nil {
			return err
		}
		return netlink.LinkSetUp(l)
	}
	check("our address", give(ours, 1))
	var theirs netlink.Link
	h.within(t, func() (err error) {
		if theirs, err = netlink.LinkByName("cable"); err != nil {
			return err
		}
		return give(theirs, 2)
	})
	// Where to send is known for good, as it is when a router is between: else the
	// kernel would notice that nobody answers its ARP.
	check("the neighbour", netlink.NeighSet(&netlink.Neigh{LinkIndex: ours.Attrs().Index, State: netlink.NUD_PERMANENT, Family: unix.AF_INET, IP: h.at.AsSlice(), HardwareAddr: theirs.Attrs().HardwareAddr}))
	return h
}

// within does something in the host's network.
func (h *host) within(t *testing.T, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(h.ns, unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	if err := <-done; err != nil {
		t.Fatalf("within %s: %v", h.name, err)
	}
}

// link connects the host, or cuts it off.
func (h *host) link(t *testing.T, up bool) {
	t.Helper()
	h.within(t, func() error {
		l, err := netlink.LinkByName("cable")
		if err != nil {
			return err
		}
		if up {
			return netlink.LinkSetUp(l)
		}
		return netlink.LinkSetDown(l)
	})
}

// endpoint is a program on the host; it says on which, and counts.
func (h *host) endpoint(t *testing.T, asked *atomic.Int64) netip.AddrPort {
	t.Helper()
	var l net.Listener
	h.within(t, func() (err error) {
		l, err = net.Listen("tcp4", netip.AddrPortFrom(h.at, 0).String())
		return err
	})
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Header().Set("X-Host", h.name)
	})}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// users are clients that ask without pause.
type users struct {
	mu     sync.Mutex
	failed []string
	served map[string]int // since the last look
	slow   time.Duration  // the longest that ended since then, or is under way
	broken int
	begun  map[int]time.Time // what is under way, by client
}

// look says who has served since the last look, how many requests failed and how
// long one took.
func (u *users) look() (served map[string]int, failed int, slow time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	served, failed, slow = u.served, u.broken, u.slow
	for _, began := range u.begun {
		slow = max(slow, time.Since(began))
	}
	u.served, u.broken, u.slow = map[string]int{}, 0, 0
	return served, failed, slow
}

func (u *users) ask(who int, c *http.Client, method, url string) {
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		panic(err)
	}
	began := time.Now()
	u.mu.Lock()
	u.begun[who] = began
	u.mu.Unlock()
	resp, err := c.Do(r)
	what, by := "", ""
	switch {
	case err != nil:
		what = err.Error()
	default:
		resp.Body.Close()
		if by = resp.Header.Get("X-Host"); resp.StatusCode != 200 {
			what = resp.Status + " " + resp.Header.Get("Proxy-Status")
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.begun, who)
	u.slow = max(u.slow, time.Since(began))
	if what != "" {
		u.failed = append(u.failed, fmt.Sprintf("%s after %s: %s", method, time.Since(began).Round(time.Millisecond), what))
		u.broken++
		return
	}
	u.served[by]++
}

func deadHost(t *testing.T, loops int) {
	if lo, err := netlink.LinkByName("lo"); err != nil || netlink.LinkSetUp(lo) != nil {
		t.Fatal("no loopback interface", err)
	}
	mortal, sound := plugIn(t, "mortal", 1), plugIn(t, "sound", 2)
	var asked, untouched, ignored atomic.Int64
	var hosts []netip.AddrPort
	for range 4 { // of which several are in use when the link is cut
		hosts = append(hosts, mortal.endpoint(t, &asked), sound.endpoint(t, &ignored))
	}
	v := edgeView(hosts...)
	v.Destinations[otherKey] = &view.Destination{Key: otherKey, Protocol: view.HTTP}
	v.Endpoints[otherKey] = &view.Endpoints{Key: otherKey, List: []view.Endpoint{{Address: mortal.endpoint(t, &untouched)}, {Address: sound.endpoint(t, &ignored)}}}
	v.Endpoints[backendKey].Policy = &policy.Upstream{Ejection: policy.DefaultUpstream.Ejection, Connect: time.Second, Panic: policy.DefaultUpstream.Panic}
	rules := &v.Proxy.Listeners[0].Routes.Hosts[0].Rules
	*rules = append([]route.Rule{{Name: "other", Matches: []route.Match{{Path: route.Path{Kind: route.PathPrefix, Value: "/other"}}}, Backends: []route.Backend{{Destination: otherKey, Weight: 1}}}}, *rules...)
	edge := start(t, v, loops)
	url := "http://" + edge.addr(t, "http")
	for range 4 * loops {
		getOnce(t, client(t, false), url+"/other")
	}

	const clients = 8
	u := &users{served: map[string]int{}, begun: map[int]time.Time{}}
	stop := make(chan struct{})
	var all sync.WaitGroup
	for who := range clients {
		all.Go(func() {
			c := &http.Client{Transport: &http.Transport{}, Timeout: 2 * time.Minute}
			defer c.CloseIdleConnections()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(5 * time.Millisecond):
				}
				u.ask(who, c, []string{"GET", "POST"}[i%2], url+"/")
			}
		})
	}
	defer func() {
		close(stop)
		all.Wait()
	}()
	until := func(limit time.Duration, what string, f func() bool) time.Duration {
		t.Helper()
		began := time.Now()
		for !f() {
			if time.Since(began) > limit {
				u.mu.Lock()
				defer u.mu.Unlock()
				t.Fatalf("not within %s: %s\nfailures: %q\n%s", limit, what, u.failed, lines(edge.metrics(t), "tulle_endpoint"))
			}
			time.Sleep(200 * time.Millisecond)
		}
		return time.Since(began)
	}
	until(time.Minute, "both hosts serve", func() bool {
		served, _, _ := u.look()
		return served["mortal"] > 20 && served["sound"] > 20
	})

	mortal.link(t, false)
	cut := time.Now()
	before := untouched.Load()
	u.look()
	suspected := fmt.Sprintf(`tulle_endpoints{service="%s",state="suspect"} 1`, otherKey)
	var guessed bool
	calm, failed := 0, 0
	until(45*time.Second, "traffic is elsewhere", func() bool {
		guessed = guessed || strings.Contains(edge.metrics(t), suspected)
		served, n, slow := u.look()
		failed += n
		if n == 0 && served["sound"] > 0 && slow < 5*time.Second {
			calm++
		} else {
			calm = 0
		}
		return calm >= 10 && guessed
	})
	took := time.Since(cut).Round(100 * time.Millisecond)
	t.Logf("traffic is elsewhere %s after the link was cut; failed: %d", took, failed)
	// What was under way and can't be repeated is lost; nobody loses two.
	if failed > clients {
		t.Errorf("%d requests failed, want at most %d: %q", failed, clients, u.failed)
	}
	if untouched.Load() != before {
		t.Error("the link isn't cut")
	}

	mortal.link(t, true)
	back := until(3*time.Minute, "the host serves again", func() bool {
		served, _, _ := u.look()
		return served["mortal"] > 5
	})
	t.Logf("the host serves again %s after the link is there", back.Round(100*time.Millisecond))
}
