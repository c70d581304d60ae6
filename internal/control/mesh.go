package control

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"tulle.dev/tulle/internal/ca"
	"tulle.dev/tulle/internal/ca/join"
	"tulle.dev/tulle/internal/control/api"
	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/federation"
	"tulle.dev/tulle/internal/control/jwtsvid"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/control/push"
	"tulle.dev/tulle/internal/control/store"
	"tulle.dev/tulle/internal/control/trust"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/mesh"
)

const (
	adminTimeout = 5 * time.Second
	// maxDump bounds a proxy's answer.
	maxDump = 64 << 20
	// maxStories bounds an answer of stories, which are at most story.MaxLast: many
	// proxies are asked at the same time.
	maxStories = 4 << 20
)

// facts answers api.Mesh from the running parts. Safe for concurrent use.
type facts struct {
	config      *Config
	started     time.Time
	at          Addresses
	ca          *ca.CA
	jwt         *jwtsvid.Authority
	foreign     *federation.Federation
	bundle      *federation.Endpoint
	trust       *trust.Change
	credentials *identity.Credentials
	tokens      *join.Tokens
	store       store.Store
	push        *push.Server
	loop        *loop
	more        []func(ctx context.Context) []client.Check // aspects of other parts
}

var _ api.Mesh = (*facts)(nil)

func (f *facts) Snapshot() *mesh.Snapshot { return f.loop.snapshot.Load() }

func (f *facts) Await(ctx context.Context, revision int64) { f.loop.await(ctx, revision) }

func (f *facts) Status(ctx context.Context) (*client.MeshStatus, error) {
	snap := f.Snapshot()
	pin := f.ca.Pin()
	out := &client.MeshStatus{
		Version: f.config.Version, Started: f.started, PID: os.Getpid(), DataDir: f.config.DataDir,
		TrustDomain: string(f.ca.TrustDomain()), ClusterDomain: snap.Settings.ClusterDomain, Snapshot: snap.Version,
		Listen: f.at.Listen, Dashboard: f.at.Dashboard,
		Proxies: f.push.Connected(), Services: len(snap.Services), Workloads: len(snap.Workloads),
		RootPin: hex.EncodeToString(pin[:]),
	}
	st, err := f.store.Status(ctx)
	out.Store = client.StoreStatus{Kind: st.Kind, Bytes: st.Bytes, Quota: st.Quota}
	if err != nil {
		out.Store.Error = err.Error()
	}
	return out, nil
}

func (f *facts) Proxies(context.Context) ([]client.Proxy, error) { return f.push.Proxies(), nil }

// AdminClient returns an HTTP client and base URL for a proxy's admin listener.
func (f *facts) adminClient(p *client.Proxy) (*http.Client, string, error) {
	if !p.Connected {
		return nil, "", &client.Status{Code: http.StatusServiceUnavailable, Reason: client.ReasonUnavailable,
			Message: fmt.Sprintf("the proxy of %s.%s is not connected since %s", p.Name, p.Namespace, p.Since.Format(time.DateTime))}
	}
	if p.Admin == "" {
		return nil, "", &client.Status{Code: http.StatusServiceUnavailable, Reason: client.ReasonUnavailable,
			Message: fmt.Sprintf("the proxy of %s.%s has no admin listener: start it with --admin", p.Name, p.Namespace)}
	}
	// The address is what the proxy says: nothing else than mutual TLS with that
	// very proxy may come of it, whatever it answers.
	at, err := netip.ParseAddrPort(p.Admin)
	if err != nil {
		return nil, "", &client.Status{Code: http.StatusServiceUnavailable, Reason: client.ReasonUnavailable,
			Message: fmt.Sprintf("the proxy of %s.%s says that its admin listener is at %q: want ADDRESS:PORT", p.Name, p.Namespace, p.Admin)}
	}
	id, err := identity.Parse(p.Identity)
	if err != nil {
		return nil, "", err
	}
	t := &http.Transport{TLSClientConfig: f.credentials.ClientConfig(id, protocolHTTP), TLSHandshakeTimeout: adminTimeout}
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &http.Client{Transport: t, Timeout: adminTimeout, CheckRedirect: stay}, "https://" + at.String(), nil
}

func (f *facts) ProxyDump(ctx context.Context, namespace, name string) (json.RawMessage, error) {
	return f.askProxy(ctx, namespace, name, "/dump")
}

func (f *facts) ProxyConnections(ctx context.Context, namespace, name string) (json.RawMessage, error) {
	return f.askProxy(ctx, namespace, name, "/connections")
}

// askProxy reads a page of a proxy's admin listener.
func (f *facts) askProxy(ctx context.Context, namespace, name, page string) (json.RawMessage, error) {
	var found *client.Proxy
	for _, p := range f.push.Proxies() {
		if p.Namespace == namespace && p.Name == name {
			found = &p
			break
		}
	}
	if found == nil {
		return nil, &client.Status{Code: http.StatusNotFound, Reason: client.ReasonNotFound,
			Message: fmt.Sprintf("no proxy named %s in namespace %s has connected to this control plane", name, namespace)}
	}
	return f.readProxy(ctx, found, page, maxDump)
}

// readProxy reads a page of a proxy's admin listener, which must be JSON of at most
// so many bytes.
func (f *facts) readProxy(ctx context.Context, p *client.Proxy, page string, most int64) (json.RawMessage, error) {
	c, base, err := f.adminClient(p)
	if err != nil {
		return nil, err
	}
	defer c.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+page, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, &client.Status{Code: http.StatusServiceUnavailable, Reason: client.ReasonUnavailable,
			Message: fmt.Sprintf("the proxy of %s.%s doesn't answer at %s: %s", p.Name, p.Namespace, p.Admin, err)}
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	wrong := ""
	switch {
	case err != nil:
		wrong = fmt.Sprintf("broke off its answer: %s", err)
	case resp.StatusCode != http.StatusOK:
		wrong = fmt.Sprintf("answered %d, want 200", resp.StatusCode)
	case int64(len(data)) > most:
		wrong = fmt.Sprintf("answered more than %d MiB", most>>20)
	case !json.Valid(data):
		wrong = "answered something else than JSON"
	}
	if wrong != "" {
		return nil, &client.Status{Code: http.StatusServiceUnavailable, Reason: client.ReasonUnavailable,
			Message: fmt.Sprintf("the proxy of %s.%s %s", p.Name, p.Namespace, wrong)}
	}
	return data, nil
}

func badRequest(format string, args ...any) error {
	return &client.Status{Kind: "Status", APIVersion: "v1", Result: "Failure", Code: http.StatusBadRequest, Reason: client.ReasonBadRequest, Message: fmt.Sprintf(format, args...)}
}

// grantable reads an identity that somebody may be given.
func (f *facts) grantable(text string) (identity.ID, error) {
	if !strings.Contains(text, "://") {
		ns, account, ok := strings.Cut(text, "/")
		if !ok {
			return identity.ID{}, badRequest("identity %q: want NAMESPACE/SERVICE-ACCOUNT or a SPIFFE id", text)
		}
		text = identity.ID{TrustDomain: f.ca.TrustDomain(), Namespace: ns, ServiceAccount: account}.String()
	}
	id, err := identity.Parse(text)
	switch {
	case err != nil:
		return id, badRequest("identity: %s", err)
	case id.TrustDomain != f.ca.TrustDomain():
		return id, badRequest("identity %s is not of this mesh's trust domain, %s", id, f.ca.TrustDomain())
	case id == identity.ControlPlane(id.TrustDomain):
		return id, badRequest("identity %s is the control plane's own", id)
	case slices.Contains(f.Snapshot().Settings.Denied, id.String()):
		return id, badRequest("identity %s is denied: it is in the Mesh object's deniedIdentities", id)
	}
	return id, nil
}

// CreateCertificate signs a certificate for who may use the API.
func (f *facts) CreateCertificate(_ context.Context, r client.CertificateRequest) (*client.Certificate, error) {
	id, err := f.grantable(r.Identity)
	if err != nil {
		return nil, err
	}
	csr, err := ca.ParseCSR(r.CSR)
	if err != nil {
		return nil, badRequest("csr: %s", err)
	}
	ttl := ca.MaxTTL
	if d := f.Snapshot().Settings.CertificateTTL; d > 0 {
		ttl = d
	}
	chain, err := f.ca.Issue(csr.PublicKey, id, ttl)
	if err != nil {
		return nil, err
	}
	return &client.Certificate{Identity: id.String(), Chain: chain}, nil
}

func (f *facts) CreateJoinToken(ctx context.Context, r client.JoinTokenRequest) (*client.JoinToken, error) {
	id, err := f.grantable(r.Identity)
	if err != nil {
		return nil, err
	}
	g := join.Grant{Identity: id, Services: []string{}}
	for i, s := range r.Services {
		p, err := object.ServiceName(s, id.Namespace)
		if err != nil {
			return nil, badRequest("services[%d]: %s", i, err)
		}
		g.Services = append(g.Services, p[0]+"."+p[1])
	}
	var ttl time.Duration
	if r.TTL != "" {
		if ttl, err = time.ParseDuration(r.TTL); err != nil || ttl < time.Second || ttl > join.MaxTTL {
			return nil, badRequest("ttl %q: want a duration from 1s to %s, such as 10m", r.TTL, join.MaxTTL)
		}
	}
	token, expires, err := f.tokens.Create(ctx, f.ca.Roots()[0], g, ttl)
	if err != nil {
		return nil, err
	}
	return &client.JoinToken{Token: token.Reveal(), Identity: id.String(), Services: g.Services, Expires: expires}, nil
}

func (f *facts) Identity(context.Context) (*client.Identity, error) {
	pin := f.ca.Pin()
	out := &client.Identity{TrustDomain: string(f.ca.TrustDomain()), RootPin: hex.EncodeToString(pin[:])}
	out.RootExpires, out.IssuerExpires, _ = f.ca.Ends()
	for _, der := range f.ca.Roots() {
		out.Bundle += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	return out, nil
}
