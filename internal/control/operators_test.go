package control

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/explain"
)

// Operators may what their role says, in their namespaces, and everything they
// change is written down.
func TestOperators(t *testing.T) {
	r := start(t, shortDir(t))
	as := func(name, role, namespaces string) *client.Client {
		sum := sha256.Sum256([]byte("token of " + name))
		r.apply(fmt.Sprintf(`
apiVersion: tulle.dev/v1alpha1
kind: Operator
metadata: {name: %s}
spec: {role: %s, namespaces: %s, tokens: [{sha256: "%s"}]}
`, name, role, namespaces, hex.EncodeToString(sum[:])))
		c := client.New(client.Config{Address: r.at.Listen, Token: "token of " + name, TLS: &tls.Config{InsecureSkipVerify: true}})
		t.Cleanup(c.Close)
		return c
	}
	chief := as("eve", "Edit", "[]") // of all namespaces
	r.apply(`
apiVersion: tulle.dev/v1alpha1
kind: Operator
metadata: {name: robot}
spec: {role: Admin, identities: ["spiffe://mesh.local/ns/shop/sa/robot"]}
`)
	viewer, editor, admin := as("vera", "View", "[]"), as("ed", "Edit", "[shop]"), as("ada", "Admin", "[]")
	r.apply(`
apiVersion: v1
kind: Secret
metadata: {name: certificate, namespace: shop}
stringData: {key: very secret}
`)
	service := func(namespace string) []byte {
		return []byte(`{"apiVersion":"v1","kind":"Service","metadata":{"name":"cart","namespace":"` + namespace + `"},"spec":{"ports":[{"port":80}]}}`)
	}
	r.apply(`
apiVersion: v1
kind: Service
metadata: {name: till, namespace: bank}
spec: {ports: [{port: 80}]}
`)
	put := func(c *client.Client, namespace string) error {
		_, err := c.Apply(t.Context(), resource(object.Service), namespace, "cart", service(namespace), false)
		return err
	}
	for _, q := range []struct {
		what string
		err  error
		ok   bool
	}{
		{"view lists", listOf(t, viewer, object.Service, ""), true},
		{"view reads a secret", listOf(t, viewer, object.Secret, "shop"), false},
		{"view changes", put(viewer, "shop"), false},
		{"edit changes its namespace", put(editor, "shop"), true},
		{"edit changes another", put(editor, "bank"), false},
		{"edit lists its namespace", listOf(t, editor, object.Service, "shop"), true},
		{"edit lists all", listOf(t, editor, object.Service, ""), false},
		{"edit reads its secrets", listOf(t, editor, object.Secret, "shop"), true},
		{"edit reads other secrets", listOf(t, editor, object.Secret, "bank"), false},
		{"edit reads operators", listOf(t, editor, object.Operator, ""), false},
		{"edit asks who may call a service of its namespace", canI(t, editor, explain.AccessQuestion{To: "cart.shop"}), true},
		{"edit asks about a service of another", canI(t, editor, explain.AccessQuestion{To: "till.bank"}), false},
		{"edit asks about a service of the default namespace", canI(t, editor, explain.AccessQuestion{To: "cart"}), false},
		{"edit asks about all that it may", canI(t, editor, explain.AccessQuestion{}), true},
		{"edit asks about another's gateway", canI(t, editor, explain.AccessQuestion{Gateway: "edge.bank:80", To: "cart.shop"}), false},
		{"view asks about any", canI(t, viewer, explain.AccessQuestion{To: "cart.shop"}), true},
		{"edit sees the status", askStatus(t, editor), true},
		{"edit makes a token for its namespace", joinToken(t, editor, "shop/cart", "cart.shop"), true},
		{"edit makes a token for another", joinToken(t, editor, "bank/cart"), false},
		{"edit makes a token for another's SPIFFE id", joinToken(t, editor, "spiffe://mesh.local/ns/bank/sa/cart"), false},
		{"edit grants a service of another", joinToken(t, editor, "shop/cart", "till.bank"), false},
		{"edit changes the root", rotate(t, editor), false},
		{"edit changes the mesh", refuse(t, editor), false},
		{"edit reads the record", readRecord(t, editor), false},
		{"edit makes a token for any workload", joinToken(t, chief, "bank/till"), true},
		{"edit makes itself an administrator", joinToken(t, chief, "tulle/admin"), false},
		{"edit makes itself an administrator, by SPIFFE id", joinToken(t, chief, "spiffe://mesh.local/ns/tulle/sa/admin"), false},
		{"edit makes itself another operator", joinToken(t, editor, "shop/robot"), false},
		{"edit signs an administrator's certificate", certificate(t, chief, "tulle/admin"), false},
		{"edit signs another operator's certificate", certificate(t, editor, "spiffe://mesh.local/ns/shop/sa/robot"), false},
		{"admin makes a token for an administrator", joinToken(t, admin, "tulle/admin"), true},
		{"admin changes anything", put(admin, "bank"), true},
		{"admin changes the mesh", refuse(t, admin), true},
	} {
		var s *client.Status
		if q.ok && q.err != nil || !q.ok && (!errors.As(q.err, &s) || s.Code != 403) {
			t.Errorf("%s: %v", q.what, q.err)
		}
	}
	entries, err := admin.Audit(t.Context(), client.AuditFilter{})
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, e := range entries {
		told = append(told, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", e.Who, e.Action, e.Kind, e.Name)))
		if strings.Contains(string(e.After)+string(e.Before), "secret") || strings.Contains(string(e.After), "token of") {
			t.Errorf("the record holds a secret: %s", e.After)
		}
	}
	for _, want := range []string{"ed apply Service cart", "ed join-token  shop/cart", "ada apply Mesh mesh", "ada apply Service cart"} {
		if !strings.Contains(strings.Join(told, "\n"), want) {
			t.Errorf("the record lacks %q:\n%s", want, strings.Join(told, "\n"))
		}
	}
	entries, err = admin.Audit(t.Context(), client.AuditFilter{Who: "ed", Kind: "Service"})
	if err != nil || len(entries) != 1 || len(entries[0].Before) != 0 || !strings.Contains(string(entries[0].After), `"port":80`) || entries[0].From != "127.0.0.1" || entries[0].How != "token" {
		t.Errorf("%+v, %v", entries, err)
	}
}

func listOf(t *testing.T, c *client.Client, k *object.Kind, namespace string) error {
	_, err := c.List(t.Context(), resource(k), namespace)
	return err
}

// canI asks about access, and that nothing is told of other namespaces than shop.
func canI(t *testing.T, c *client.Client, q explain.AccessQuestion) error {
	answers, err := c.Access(t.Context(), q)
	for _, a := range answers {
		if !strings.HasPrefix(a.To, "cart.shop:") {
			t.Errorf("told of %s", a.To)
		}
	}
	return err
}

func askStatus(t *testing.T, c *client.Client) error {
	_, err := c.Status(t.Context())
	return err
}

func joinToken(t *testing.T, c *client.Client, id string, services ...string) error {
	_, err := c.CreateJoinToken(t.Context(), client.JoinTokenRequest{Identity: id, Services: services})
	return err
}

// certificate asks for a certificate with a request that makes no sense: who may
// ask for it is told that.
func certificate(t *testing.T, c *client.Client, id string) error {
	_, err := c.CreateCertificate(t.Context(), client.CertificateRequest{Identity: id, CSR: []byte("nonsense")})
	return err
}

func rotate(t *testing.T, c *client.Client) error {
	_, err := c.ChangeTrust(t.Context(), client.TrustRotate)
	return err
}

func refuse(t *testing.T, c *client.Client) error {
	_, err := c.Apply(t.Context(), resource(object.Mesh), "", "mesh", []byte(`{"apiVersion":"tulle.dev/v1alpha1","kind":"Mesh","metadata":{"name":"mesh"},"spec":{"plaintext":"Refused"}}`), false)
	return err
}

func readRecord(t *testing.T, c *client.Client) error {
	_, err := c.Audit(t.Context(), client.AuditFilter{})
	return err
}
