package identity_test

import (
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/identity/identitytest"
)

func TestUniqueIDForm(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		id := identity.NewUniqueID()
		if !identity.IsUniqueID(id) || seen[id] {
			t.Fatalf("%q", id)
		}
		seen[id] = true
	}
	for _, wrong := range []string{"", "0", strings.Repeat("A", 32), strings.Repeat("a", 31), strings.Repeat("a", 33), strings.Repeat("g", 32)} {
		if identity.IsUniqueID(wrong) {
			t.Errorf("%q was taken", wrong)
		}
	}
}

// TestWorkloadConfig: among workloads with one SPIFFE id only the one with the
// unique id is spoken to.
func TestWorkloadConfig(t *testing.T) {
	d := identitytest.New(t, "mesh.local")
	web := d.Credentials(d.ID("web"))
	mine, others := identity.NewUniqueID(), identity.NewUniqueID()
	server := func(serial string) *identity.Credentials {
		c := d.Credentials(d.ID("cart"))
		key, err := identity.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		leaf := d.Certificate(d.ID("cart"), key.Public(), time.Hour, func(c *x509.Certificate) { c.Subject.SerialNumber = serial })
		svid, err := identity.NewSVID([][]byte{leaf.Raw}, key)
		if err != nil {
			t.Fatal(err)
		}
		c.SetSVID(svid)
		return c
	}
	for _, c := range []struct{ name, want, has, got string }{
		{"the one", mine, mine, ""},
		{"another", mine, others, others},
		{"one of before there were unique ids", mine, "", "none"},
		{"one with a serialNumber of another kind", mine, "no. 5", "none"},
		{"any, to one with an id", "", others, ""},
		{"any, to one without", "", "", ""},
	} {
		client, _, _ := shake(t, web.WorkloadConfig(d.ID("cart"), c.want), server(c.has).ServerConfig(nil))
		var other *identity.OtherWorkloadError
		switch {
		case c.got == "" && client != nil:
			t.Errorf("%s: %v", c.name, client)
		case c.got != "" && (!errors.As(client, &other) || !strings.Contains(client.Error(), c.got) || !strings.Contains(client.Error(), c.want)):
			t.Errorf("%s: %v", c.name, client)
		}
	}
	// The identity comes first.
	client, _, _ := shake(t, web.WorkloadConfig(d.ID("payment"), mine), server(mine).ServerConfig(nil))
	if client == nil || !strings.Contains(client.Error(), "want spiffe://mesh.local/ns/default/sa/payment") {
		t.Errorf("another identity with the same unique id: %v", client)
	}
}
