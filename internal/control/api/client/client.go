package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"tulle.dev/tulle/internal/telemetry"
)

const (
	// maxAnswer bounds what is read of one answer.
	maxAnswer   = 256 << 20
	dialTimeout = 5 * time.Second
)

// Config says where the control plane is. Exactly one of Socket and Address.
type Config struct {
	// Socket is the path of control.sock.
	Socket string
	// Address is HOST:PORT; TLS and Token (or a client certificate in TLS) say
	// who is asking.
	Address string
	TLS     *tls.Config
	Token   string
}

// Client talks to one control plane. Safe for concurrent use.
type Client struct {
	http  *http.Client
	base  string
	where string
	token string
}

// New makes a client; it connects on first use.
func New(c Config) *Client {
	t := &http.Transport{TLSClientConfig: c.TLS, DisableCompression: true, MaxIdleConns: 4}
	d := net.Dialer{Timeout: dialTimeout}
	out := &Client{http: &http.Client{Transport: t}, base: "http://tulle", where: c.Socket, token: c.Token}
	if c.Socket != "" {
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", c.Socket)
		}
	} else {
		t.DialContext = d.DialContext
		out.base, out.where = "https://"+c.Address, c.Address
	}
	return out
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// UnreachableError says that no control plane answered.
type UnreachableError struct {
	Where string
	Err   error
}

// Error says where nobody answered, and why.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("no control plane answers at %s: %v", e.Where, e.Err)
}

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

func hasReason(err error, reason string) bool {
	var s *Status
	return errors.As(err, &s) && s.Reason == reason
}

// Do sends one request and returns the answer, whatever its code is under 400;
// the caller closes its body. The path begins with /.
func (c *Client) Do(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	var r io.Reader
	if body != nil {
		r = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, r)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return nil, &UnreachableError{c.where, err}
	}
	if resp.StatusCode < 400 {
		return resp, nil
	}
	defer resp.Body.Close()
	data, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	s := new(Status)
	if json.Unmarshal(data, s) != nil || s.Message == "" {
		s = &Status{Kind: "Status", APIVersion: "v1", Result: "Failure", Reason: ReasonInternal, Message: strings.TrimSpace(string(data))}
		if s.Message == "" {
			s.Message = resp.Status
		}
	}
	s.Code = resp.StatusCode
	return nil, s
}

func (c *Client) json(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	resp, err := c.Do(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
		return err
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out); err != nil {
		return fmt.Errorf("the control plane's answer to %s %s can't be read: %w", method, path, err)
	}
	return nil
}

// Resource names a kind in URLs. (Group "" is Kubernetes' core group.)
type Resource struct {
	Group, Version, Plural string
	Namespaced             bool
}

func (r Resource) path(namespace, name string) string {
	p := "/apis/" + r.Group + "/" + r.Version
	if r.Group == "" {
		p = "/api/" + r.Version
	}
	if r.Namespaced && namespace != "" {
		p += "/namespaces/" + url.PathEscape(namespace)
	}
	p += "/" + r.Plural
	if name != "" {
		p += "/" + url.PathEscape(name)
	}
	return p
}

// Get returns one object as JSON.
func (c *Client) Get(ctx context.Context, r Resource, namespace, name string) (json.RawMessage, error) {
	var out json.RawMessage
	err := c.json(ctx, http.MethodGet, r.path(namespace, name), nil, &out)
	return out, err
}

// List returns the objects of a namespace, or of all with namespace "".
func (c *Client) List(ctx context.Context, r Resource, namespace string) (*List, error) {
	out := new(List)
	err := c.json(ctx, http.MethodGet, r.path(namespace, ""), nil, out)
	return out, err
}

// Apply creates or replaces an object (JSON or YAML, without status). With
// dryRun it only says what would happen.
func (c *Client) Apply(ctx context.Context, r Resource, namespace, name string, object []byte, dryRun bool) (*Applied, error) {
	path := r.path(namespace, name)
	if dryRun {
		path += "?dryRun=All"
	}
	resp, err := c.Do(ctx, http.MethodPut, path, object)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, &UnreachableError{c.where, err}
	}
	return &Applied{Action: resp.Header.Get(HeaderAction), Object: data}, nil
}

// HeaderAction says what a PUT did: created, configured, unchanged.
const HeaderAction = "Tulle-Action"

// Delete removes an object.
func (c *Client) Delete(ctx context.Context, r Resource, namespace, name string, dryRun bool) error {
	path := r.path(namespace, name)
	if dryRun {
		path += "?dryRun=All"
	}
	return c.json(ctx, http.MethodDelete, path, nil, nil)
}

// Status returns how the control plane is.
func (c *Client) Status(ctx context.Context) (*MeshStatus, error) {
	out := new(MeshStatus)
	return out, c.json(ctx, http.MethodGet, "/tulle/v1/status", nil, out)
}

// Check returns each aspect that was looked at.
func (c *Client) Check(ctx context.Context) (*CheckReport, error) {
	out := new(CheckReport)
	return out, c.json(ctx, http.MethodGet, "/tulle/v1/check", nil, out)
}

func window(path string, d time.Duration) string {
	if d <= 0 {
		return path
	}
	return path + "?window=" + d.String()
}

// Stat returns the golden signals of services; window 0 is the default, 1m.
func (c *Client) Stat(ctx context.Context, w time.Duration) (*telemetry.Stat, error) {
	out := new(telemetry.Stat)
	return out, c.json(ctx, http.MethodGet, window("/tulle/v1/stat", w), nil, out)
}

// Edges returns the golden signals of who calls whom.
func (c *Client) Edges(ctx context.Context, w time.Duration) (*telemetry.Edges, error) {
	out := new(telemetry.Edges)
	return out, c.json(ctx, http.MethodGet, window("/tulle/v1/edges", w), nil, out)
}

// Routes returns what each rule of a route did, by backend.
func (c *Client) Routes(ctx context.Context, w time.Duration) (*telemetry.Routes, error) {
	out := new(telemetry.Routes)
	return out, c.json(ctx, http.MethodGet, window("/tulle/v1/routes", w), nil, out)
}

// Proxies returns the connected and the lately connected proxies.
func (c *Client) Proxies(ctx context.Context) ([]Proxy, error) {
	var out []Proxy
	err := c.json(ctx, http.MethodGet, "/tulle/v1/proxies", nil, &out)
	return out, err
}

// ProxyDump returns what a proxy believes, as its admin listener says it (JSON).
func (c *Client) ProxyDump(ctx context.Context, namespace, name string) (json.RawMessage, error) {
	var out json.RawMessage
	err := c.json(ctx, http.MethodGet, "/tulle/v1/proxies/"+url.PathEscape(namespace)+"/"+url.PathEscape(name), nil, &out)
	return out, err
}

// ProxyConnections returns the connections a proxy has open, as its admin
// listener says them (JSON).
func (c *Client) ProxyConnections(ctx context.Context, namespace, name string) (json.RawMessage, error) {
	var out json.RawMessage
	err := c.json(ctx, http.MethodGet, "/tulle/v1/proxies/"+url.PathEscape(namespace)+"/"+url.PathEscape(name)+"/connections", nil, &out)
	return out, err
}

// Endpoints returns where a service ("cart.default") is served.
func (c *Client) Endpoints(ctx context.Context, service string) (*Endpoints, error) {
	out := new(Endpoints)
	return out, c.json(ctx, http.MethodGet, "/tulle/v1/endpoints?service="+url.QueryEscape(service), nil, out)
}

// CreateJoinToken makes a single-use token for a new proxy.
func (c *Client) CreateJoinToken(ctx context.Context, req JoinTokenRequest) (*JoinToken, error) {
	out := new(JoinToken)
	return out, c.json(ctx, http.MethodPost, "/tulle/v1/join-tokens", req, out)
}

// Identity returns the CA's public part.
func (c *Client) Identity(ctx context.Context) (*Identity, error) {
	out := new(Identity)
	return out, c.json(ctx, http.MethodGet, "/tulle/v1/identity", nil, out)
}
