package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/ca"
	"tulle.dev/tulle/internal/control/graph"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/control/plan"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/view"
)

// throwAwayTTL is the life of an SVID that `view --identity` writes.
const throwAwayTTL = 24 * time.Hour

func (a *app) viewCommand() *cobra.Command {
	var files []string
	var proxy, state, identityDir, output string
	c := &cobra.Command{
		Use:   "view -f FILE|DIR... --proxy NAME",
		Short: "Show what one proxy would be told, with no control plane",
		Long: `Turns files of objects into what one proxy (a Workload's or a Gateway's) would be
told, and shows it, or writes it to a state file from which tulle-proxy runs alone.

--identity DIR makes an identity for it from a throw-away CA kept in DIR, so that
proxies from the same DIR speak mutual TLS. It is for trying and testing only.`,
		Example: `  tulle view -f examples/edge/mesh.yaml --proxy edge
  tulle view -f examples/edge/mesh.yaml --proxy edge --state edge.state
  tulle-proxy --state edge.state`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := checkFormat(output, formatTable, formatJSON, formatYAML); err != nil {
				return err
			}
			documents, err := a.read(files)
			if err != nil {
				return err
			}
			v, err := render(documents, proxy)
			if err != nil {
				return err
			}
			if identityDir != "" {
				if err := giveIdentity(v, identityDir); err != nil {
					return err
				}
			}
			if state != "" {
				if err := view.Save(state, v); err != nil {
					return couldNot("", "%w", err)
				}
				if output == formatTable {
					fmt.Fprintf(a.Err, "wrote %s; run it with: tulle-proxy --state %s\n", state, state)
					return nil
				}
			}
			if output == formatTable {
				output = formatYAML
			}
			data, err := json.Marshal(readable(v))
			if err != nil {
				return err
			}
			return printData(a.Out, output, data)
		},
	}
	c.Flags().StringArrayVarP(&files, "filename", "f", nil, "`FILE` or directory with objects, - for standard input; may be repeated")
	c.Flags().StringVar(&proxy, "proxy", "", "`NAME` of the Workload or Gateway, or NAME.NAMESPACE")
	c.Flags().StringVar(&state, "state", "", "`FILE` to write the state to")
	c.Flags().StringVar(&identityDir, "identity", "", "`DIRECTORY` of a throw-away CA and the identities made from it")
	c.Flags().StringVarP(&output, "output", "o", "", "`FORMAT`: yaml or json (default yaml, nothing with --state)")
	_ = c.MarkFlagRequired("filename")
	_ = c.MarkFlagRequired("proxy")
	_ = c.MarkFlagFilename("filename", "yaml", "yml", "json")
	a.namespaceFlag(c)
	completeFormats(c, formatJSON, formatYAML)
	return c
}

// render plans one proxy's view from documents alone.
func render(documents []object.Document, proxy string) (*view.View, error) {
	domain := object.DefaultTrustDomain
	var changes []graph.Change
	for _, d := range documents {
		object.Default(d.Object)
		if m, ok := d.Object.(*v1alpha1.Mesh); ok && m.Spec.TrustDomain != "" {
			domain = m.Spec.TrustDomain
		}
		changes = append(changes, graph.ChangeOf(d.Object))
	}
	builder := graph.NewBuilder(identity.TrustDomain(domain))
	result := builder.Apply(1, changes)
	name, err := plan.Find(result.Snapshot, proxy)
	if err != nil {
		return nil, wrong("", "%w", err)
	}
	if problems := refused(result, name); len(problems) > 0 {
		return nil, wrong("", "%s", strings.Join(problems, "\n"))
	}
	return plan.Full(result.Snapshot, name), nil
}

// refused lists what is wrong with the proxy's own object.
func refused(result graph.Result, name mesh.Name) []string {
	var all []string
	for ref, status := range result.Statuses {
		if ref.Name != name || ref.Kind != object.Workload && ref.Kind != object.Gateway {
			continue
		}
		for _, c := range status.Conditions {
			if !c.True {
				all = append(all, fmt.Sprintf("%s: %s: %s", ref, c.Type, c.Message))
			}
		}
	}
	return all
}

// giveIdentity makes the proxy's SVID in dir and tells the view where it is.
func giveIdentity(v *view.View, dir string) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return couldNot("", "%w", err)
	}
	id, err := identity.Parse(v.Proxy.Identity)
	if err != nil {
		return wrong("", "the proxy's identity: %w", err)
	}
	authority, err := ca.ThrowAway(abs, id.TrustDomain)
	if err != nil {
		return couldNot("", "%w", err)
	}
	if err := authority.WriteIdentity(abs, v.Proxy.Name, id, throwAwayTTL); err != nil {
		return couldNot("", "make an identity in %s: %w", dir, err)
	}
	if _, err := os.Stat(filepath.Join(abs, identity.BundleFile)); err != nil {
		return couldNot("", "%w", err)
	}
	v.Bundle, v.Proxy.IdentityDir = authority.Bundle(), abs
	return nil
}
