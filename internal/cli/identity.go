package cli

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// identityAnswer is the part of a proxy's dump that is about who it is.
type identityAnswer struct {
	Identity identityOf `json:"identity"`
	Control  struct {
		IdentityError string `json:"identity_error"`
	} `json:"control"`
}

type identityOf struct {
	ID        string    `json:"id"`
	UniqueID  string    `json:"unique_id,omitempty"`
	Serial    string    `json:"serial"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	Chain     int       `json:"chain_length"`
	Issuer    string    `json:"issuer"`
	Renewal   time.Time `json:"renewal"`
	Roots     uint64    `json:"bundle_version"`
	Denied    []string  `json:"denied"`
	Bundle    []struct {
		Name  string `json:"trust_domain"`
		Roots []struct {
			Subject  string    `json:"subject"`
			NotAfter time.Time `json:"not_after"`
			SHA256   string    `json:"sha256"`
		} `json:"roots"`
	} `json:"bundle"`
}

func (a *app) identityCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "identity WORKLOAD",
		Short: "A workload's certificate: who it is, until when, who signed it, whom it trusts",
		Long: `Asks the workload's proxy which certificate (X.509-SVID) it presents, when that is
renewed, and which roots it trusts. Exit code 1 when it has none, or can't renew it.`,
		Example: `  tulle identity web
  tulle identity cart -n shop -o json`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeProxies,
	}
	a.namespaceFlag(c)
	c.AddCommand(a.identityJWTCommand())
	ask := func(q *question) (*identityOf, error) {
		namespace, name := a.proxyName(q.args[0])
		dump, err := q.conn.ProxyDump(q.ctx, namespace, name)
		if err != nil {
			return nil, noProxy(err, namespace, name)
		}
		var d identityAnswer
		if err := json.Unmarshal(dump, &d); err != nil {
			return nil, couldNot("", "the proxy's answer: %w", err)
		}
		switch i := &d.Identity; {
		case i.ID == "":
			q.verdict = wrong("`tulle check` says why", "the proxy of %s.%s has no certificate", name, namespace)
		case a.now().After(i.NotAfter):
			q.verdict = wrong("`tulle check` says why", "the certificate of %s ended on %s", i.ID, i.NotAfter.Local().Format(time.DateTime))
		case d.Control.IdentityError != "":
			q.verdict = wrong("the present one stays in use until it ends", "the certificate of %s can't be renewed: %s", i.ID, d.Control.IdentityError)
		}
		return &d.Identity, nil
	}
	return asks(a, c, ask, func(_ *question, i *identityOf) error {
		a.printIdentity(i)
		return nil
	}, formatJSON, formatYAML)
}

func (a *app) printIdentity(i *identityOf) {
	if i.ID == "" {
		return
	}
	now := a.now()
	line := func(name, format string, args ...any) {
		fmt.Fprintf(a.Out, "%-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("Identity", "%s", a.paint.bold(i.ID))
	if i.UniqueID != "" {
		line("Unique id", "%s", i.UniqueID)
	}
	line("Serial", "%s", i.Serial)
	line("Issuer", "%s (chain of %d)", i.Issuer, i.Chain)
	line("Valid", "%s to %s, %s left of %s", i.NotBefore.Local().Format(time.DateTime), i.NotAfter.Local().Format(time.DateTime),
		i.NotAfter.Sub(now).Truncate(time.Second), i.NotAfter.Sub(i.NotBefore).Round(time.Minute))
	if !i.Renewal.IsZero() {
		line("Renewal", "%s, in %s", i.Renewal.Local().Format(time.DateTime), i.Renewal.Sub(now).Truncate(time.Second))
	}
	version := ""
	if i.Roots > 0 {
		version = fmt.Sprintf(" (version %d)", i.Roots)
	}
	for _, t := range i.Bundle {
		line("Trusts", "%s%s", t.Name, version)
		for _, r := range t.Roots {
			line("", "%s… until %s  %s", r.SHA256[:min(16, len(r.SHA256))], r.NotAfter.Local().Format(time.DateOnly), r.Subject)
		}
	}
	for _, id := range i.Denied {
		line("Denies", "%s", id)
	}
}
