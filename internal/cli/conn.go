package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"tulle.dev/tulle/internal/control"
	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/object"
)

// connect finds the control plane by flags and environment. It doesn't dial.
func (a *app) connect() (*client.Client, error) {
	target := a.setting(a.controlPlane, "TULLE_CONTROL_PLANE")
	if a.dataDir != "" && a.controlPlane == "" {
		target = "" // the flag is nearer than the environment
	}
	if target == "" {
		dir, err := a.dir()
		if err != nil {
			return nil, err
		}
		target = "unix:" + filepath.Join(dir, control.ControlSocket)
	}
	if path, ok := strings.CutPrefix(target, "unix:"); ok {
		return client.New(client.Config{Socket: path}), nil
	}
	return a.connectRemote(target)
}

func (a *app) connectRemote(target string) (*client.Client, error) {
	if _, _, err := net.SplitHostPort(target); err != nil {
		return nil, couldNot("write HOST:PORT, or unix:PATH for a socket", "control plane %q: %w", target, err)
	}
	c := client.Config{Address: target, TLS: &tls.Config{MinVersion: tls.VersionTLS13}}
	ca := a.setting(a.caFile, "TULLE_CA")
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, couldNot("", "root certificates: %w", err)
		}
		if err := trustControlPlane(c.TLS, pem); err != nil {
			return nil, couldNot("", "root certificates: %s: %w", ca, err)
		}
	}
	if ca == "" {
		return nil, couldNot("give --ca FILE; `tulle diagnostics identity -o pem` on the control plane's machine prints what is to be in it",
			"a control plane elsewhere is trusted by the mesh's root certificates")
	}
	cert, key := a.setting(a.certFile, "TULLE_CERTIFICATE"), a.setting(a.keyFile, "TULLE_KEY")
	token := a.setting(a.tokenFile, "TULLE_TOKEN_FILE")
	switch {
	case cert != "" && key != "":
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, couldNot("", "client certificate: %w", err)
		}
		c.TLS.Certificates = []tls.Certificate{pair}
	case token != "":
		b, err := os.ReadFile(token)
		if err != nil {
			return nil, couldNot("", "token: %w", err)
		}
		c.Token = strings.TrimSpace(string(b))
	default:
		return nil, couldNot("give --token-file FILE (the control plane has it as DATA-DIR/api-token), or --certificate FILE and --key FILE",
			"a control plane elsewhere wants to know who asks")
	}
	return client.New(c), nil
}

// trustControlPlane accepts a server that proves to be a control plane of the
// mesh whose roots these are: its certificate carries a SPIFFE id, no DNS name.
func trustControlPlane(c *tls.Config, pem []byte) error {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return errors.New("no PEM certificate in it")
	}
	c.InsecureSkipVerify = true // VerifyConnection verifies
	c.VerifyConnection = func(state tls.ConnectionState) error {
		leaf := state.PeerCertificates[0]
		between := x509.NewCertPool()
		for _, cert := range state.PeerCertificates[1:] {
			between.AddCert(cert)
		}
		_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
		if err != nil {
			return err
		}
		if len(leaf.URIs) != 1 || !strings.HasSuffix(leaf.URIs[0].Path, controlPlanePath) {
			return errors.New("the server is not the mesh's control plane")
		}
		return nil
	}
	return nil
}

// controlPlanePath ends the SPIFFE id of every control plane.
const controlPlanePath = "/ns/tulle/sa/control-plane"

// advise turns an error of the client into one that says what to do. An answer
// of the control plane is exit code 1, or 2 when it wouldn't or couldn't answer.
func advise(err error) error {
	if err == nil {
		return nil
	}
	var already *failure
	if errors.As(err, &already) {
		return err
	}
	var nobody *client.UnreachableError
	if errors.As(err, &nobody) {
		return adviseUnreachable(nobody)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return couldNot("is it overloaded or stopped? --timeout waits longer", "the control plane didn't answer in time")
	}
	var said *client.Status
	if !errors.As(err, &said) {
		return couldNot("are the CLI and the control plane of the same version? see `tulle version`", "%w", err)
	}
	switch said.Reason {
	case client.ReasonUnauthorized, client.ReasonForbidden:
		return couldNot("ask with a token or a client certificate that may do this", "%w", err)
	case client.ReasonUnavailable, client.ReasonInternal:
		return couldNot("`tulle check` may say what is wrong", "%w", err)
	case client.ReasonStorageFull:
		return couldNot("make room on the disk, or raise the store's quota", "%w", err)
	}
	return wrong("", "%w", err)
}

func adviseUnreachable(e *client.UnreachableError) error {
	switch {
	case errors.Is(e.Err, fs.ErrNotExist) || errors.Is(e.Err, syscall.ECONNREFUSED):
		return couldNot("start a mesh with `tulle up`, or say where yours is with --data-dir (TULLE_DATA_DIR) or --control-plane (TULLE_CONTROL_PLANE)",
			"no control plane answers at %s", e.Where)
	case errors.Is(e.Err, fs.ErrPermission):
		return couldNot("only the user who started the control plane may ask it here", "may not open %s", e.Where)
	case errors.Is(e.Err, context.DeadlineExceeded):
		return couldNot("is it overloaded or stopped? --timeout waits longer", "the control plane at %s didn't answer in time", e.Where)
	case errors.Is(e.Err, context.Canceled):
		return couldNot("", "interrupted")
	}
	return couldNot("", "%w", e)
}

// resource names a kind to the client.
func resource(k *object.Kind) client.Resource {
	return client.Resource{Group: k.Group, Version: k.Version, Plural: k.Plural, Namespaced: k.Namespaced}
}

// list returns the objects of a kind, of all namespaces when namespace is
// empty, and the same as JSON.
func list(ctx context.Context, c *client.Client, kind *object.Kind, namespace string) ([]object.Object, []json.RawMessage, error) {
	l, err := c.List(ctx, resource(kind), namespace)
	if err != nil {
		return nil, nil, advise(err)
	}
	objects := make([]object.Object, 0, len(l.Items))
	for i, item := range l.Items {
		o, err := object.Unmarshal(kind, item)
		if err != nil {
			return nil, nil, couldNot("", "the control plane's list of %s: %w", kind.Plural, err)
		}
		identify(o, kind)
		if l.Items[i], err = withType(item, kind); err != nil {
			return nil, nil, couldNot("", "the control plane's list of %s: %w", kind.Plural, err)
		}
		objects = append(objects, o)
	}
	return objects, l.Items, nil
}

// get returns one object, and the same as JSON. client.IsNotFound tells that
// there is none.
func get(ctx context.Context, c *client.Client, kind *object.Kind, namespace, name string) (object.Object, json.RawMessage, error) {
	data, err := c.Get(ctx, resource(kind), namespace, name)
	if err != nil {
		return nil, nil, advise(err)
	}
	o, err := object.Unmarshal(kind, data)
	if err != nil {
		return nil, nil, couldNot("", "the control plane's %s: %w", kind.Name, err)
	}
	identify(o, kind)
	return o, data, nil
}

// identify fills the TypeMeta that items of a list may leave out.
func identify(o object.Object, kind *object.Kind) {
	if object.Of(o) == nil {
		o.GetObjectKind().SetGroupVersionKind(kind.New().GetObjectKind().GroupVersionKind())
	}
}

func withType(item json.RawMessage, kind *object.Kind) (json.RawMessage, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(item, &m); err != nil {
		return nil, err
	}
	if m["kind"] != nil {
		return item, nil
	}
	m["kind"], m["apiVersion"] = quoted(kind.Name), quoted(kind.APIVersion())
	return json.Marshal(m)
}

func quoted(s string) json.RawMessage { return json.RawMessage(fmt.Sprintf("%q", s)) }
