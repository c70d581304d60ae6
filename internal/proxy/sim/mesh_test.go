package sim_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"math/big"
	"net/netip"
	"net/url"
	"time"

	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/proxy/sim"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/view"
)

// authority issues SVIDs that are the same in every process: its randomness is
// the test's (cryptotest.SetGlobalRandom), its calendar the world's.
type authority struct {
	cert  *x509.Certificate
	key   crypto.Signer
	svids map[string]*identity.SVID
}

var ca *authority

const (
	webID  = "spiffe://mesh.local/ns/default/sa/web"
	edgeID = "spiffe://mesh.local/ns/default/sa/edge"
	shopID = "spiffe://mesh.local/ns/default/sa/shop"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newAuthority() *authority {
	a := &authority{svids: map[string]*identity.SVID{}}
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: sim.Epoch.Add(-time.Hour), NotAfter: sim.Epoch.Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		URIs: []*url.URL{{Scheme: "spiffe", Host: "mesh.local"}},
	}
	a.cert = must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key))))
	a.key = key
	for i, id := range []string{webID, edgeID, shopID} {
		key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 2)), NotBefore: sim.Epoch.Add(-time.Minute), NotAfter: sim.Epoch.Add(100 * time.Hour),
			BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
			URIs:        []*url.URL{must(url.Parse(id))},
		}
		der := must(x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key))
		a.svids[id] = must(identity.NewSVID([][]byte{der}, key))
	}
	return a
}

// issue gives a proxy its SVID and the roots.
func (a *authority) issue(c *identity.Credentials, w *sim.World, id string) {
	c.Now = w.Wall
	c.SetSVID(a.svids[id])
	c.SetBundle(must(identity.NewBundle(map[identity.TrustDomain][][]byte{"mesh.local": {a.cert.Raw}})))
}

const shopKey = "shop.default:80"

// hostAddr is the address of a host of the mesh.
func hostAddr(n byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, n}) }

// base is a view with one destination.
func base(name string, role view.Role, id string, protocol view.Protocol, listeners ...view.Listener) *view.View {
	return &view.View{
		Version: 1,
		Proxy: view.Proxy{
			Name: name, Namespace: "default", Role: role, Identity: id, TrustDomain: "mesh.local", ClusterDomain: "cluster.local",
			Settings:  view.Settings{StreamIdle: 20 * time.Second, IdleTimeout: 30 * time.Second},
			Listeners: listeners,
		},
		Destinations: map[string]*view.Destination{shopKey: {Key: shopKey, Protocol: protocol}},
		Endpoints:    map[string]*view.Endpoints{shopKey: {Key: shopKey}},
		Hosts:        map[string]*view.Host{},
	}
}

// backendsOf plants programs that serve at those hosts. With sidecars each has
// an inbound proxy before it, and the endpoints are theirs.
func (r *run) backendsOf(v *view.View, n int, sidecars bool, serve func(*program, netip.AddrPort)) {
	dead := -1
	if n > 1 && r.plan.IntN(4) == 0 {
		dead = r.plan.IntN(n) // nobody listens there: what goes there must go elsewhere
	}
	r.dead = dead
	for i := range n {
		host := hostAddr(byte(20 + i))
		app := netip.AddrPortFrom(host, 8080)
		p := newProgram(r.world, fmt.Sprintf("backend%d", i), host)
		if i != dead || sidecars {
			serve(p, app)
		}
		end := view.Endpoint{Address: app}
		if sidecars {
			mesh := netip.AddrPortFrom(host, 15443)
			in := base(fmt.Sprintf("inbound%d", i), view.Sidecar, shopID, view.Detect, view.Listener{
				Name: "in", Kind: view.Inbound, Address: mesh, Destination: shopKey, App: app,
			})
			if i != dead {
				r.startProxy(in.Proxy.Name, host, in, 1+r.plan.IntN(2))
			}
			end = view.Endpoint{Address: mesh, Identity: shopID, Workload: "shop.default"}
		}
		if i == dead && r.plan.IntN(2) == 0 {
			// Not even a host that could refuse: nothing comes back.
			end.Address = netip.AddrPortFrom(hostAddr(200), end.Address.Port())
		}
		v.Endpoints[shopKey].List = append(v.Endpoints[shopKey].List, end)
	}
}

// edgeView is a gateway's.
func (r *run) edgeView() *view.View {
	return base("edge", view.Gateway, edgeID, view.HTTP, view.Listener{
		Name: "http", Kind: view.Edge, Protocol: view.HTTP, Address: netip.AddrPortFrom(hostAddr(1), 80),
		Routes: route.Spec{Hosts: []route.Host{{
			Hostnames: []string{"*"},
			Rules:     []route.Rule{{Name: "all", Backends: []route.Backend{{Destination: shopKey, Weight: 1}}, Timeout: r.timeout}},
		}}},
	})
}

// virtual is the service's own address, which the client's host redirects.
var virtual = netip.MustParseAddrPort("240.240.0.1:80")

// sidecarView is that of the calling program's sidecar.
func sidecarView(protocol view.Protocol) *view.View {
	v := base("web", view.Sidecar, webID, protocol,
		view.Listener{Name: "out", Kind: view.Explicit, Address: netip.AddrPortFrom(hostAddr(2), 8081), Destination: shopKey},
		view.Listener{Name: "capture", Kind: view.Capture, Address: netip.AddrPortFrom(hostAddr(2), 15001)},
		view.Listener{Name: "forward", Kind: view.Forward, Address: netip.AddrPortFrom(hostAddr(2), 15002)},
	)
	v.Hosts[virtual.Addr().String()] = &view.Host{
		Name: virtual.Addr().String(), Service: "shop.default", Addresses: []netip.Addr{virtual.Addr()}, Ports: []uint16{80},
	}
	v.Hosts["shop.example"] = &view.Host{
		Name: "shop.example", Service: "shop.default", Addresses: []netip.Addr{virtual.Addr()}, Ports: []uint16{80},
	}
	return v
}
