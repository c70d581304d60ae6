package cli

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/control/graph"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/explain"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/mesh"
)

// maxCases bounds a file of cases, in bytes.
const maxCases = 8 << 20

// accessCase is one case of `auth test`.
type accessCase struct {
	Name    string            `json:"name,omitempty"`
	From    string            `json:"from"`
	To      string            `json:"to"`
	Method  string            `json:"method,omitempty"`
	Path    string            `json:"path,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`
	Claims  map[string]any    `json:"claims,omitempty"`
	// Want is "allow" or "deny"; Rule, where it is written, the rule that decides.
	Want string `json:"want"`
	Rule string `json:"rule,omitempty"`
}

func (a *app) authTest() *cobra.Command {
	var files []string
	c := &cobra.Command{
		Use:   "test CASES.yaml... [-f FILE|DIR]...",
		Short: "Try cases of who may do what, in CI or against the mesh",
		Long: `Asks each case of the files as tulle auth can-i does, prints those that come out
otherwise than they should, and a summary. With -f it needs no mesh: the objects of the
files (services, workloads, policies) are all there is.

A file is a list of cases:

  cases:
  - {name: web charges, from: web, to: payment, method: POST, path: /charge, want: allow}
  - {from: cart, to: payment, path: /charge, want: deny}
  - {from: none, to: payment, want: deny}
  - {from: web, to: payment, headers: {x-a: b}, claims: {sub: alice}, want: allow, rule: accesspolicy/shop/payment#0}

Exit codes: 0 all as they should be, 1 some aren't, 2 couldn't try them.`,
		Example: `  tulle auth test access-cases.yaml
  tulle auth test access-cases.yaml -f policies/ -f services.yaml`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var cases []accessCase
			for _, file := range args {
				more, err := readCases(file)
				if err != nil {
					return err
				}
				cases = append(cases, more...)
			}
			ask, err := a.judge(cmd, files)
			if err != nil {
				return err
			}
			return a.tryCases(cases, ask)
		},
	}
	c.Flags().StringArrayVarP(&files, "filename", "f", nil, "`FILE` or directory with objects, in place of the mesh; may be repeated")
	_ = c.MarkFlagFilename("filename", "yaml", "yml", "json")
	a.namespaceFlag(c)
	return c
}

func readCases(file string) ([]accessCase, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, couldNot("", "%w", err)
	}
	if info.Size() > maxCases {
		return nil, couldNot("", "%s: is larger than %d bytes", file, maxCases)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, couldNot("", "%w", err)
	}
	var out struct {
		Cases []accessCase `json:"cases"`
	}
	if err := yaml.UnmarshalStrict(data, &out); err != nil {
		return nil, couldNot("see `tulle auth test --help`", "%s: %w", file, err)
	}
	if len(out.Cases) == 0 {
		return nil, couldNot("see `tulle auth test --help`", "%s: has no cases", file)
	}
	for i := range out.Cases {
		c := &out.Cases[i]
		switch {
		case c.From == "":
			return nil, couldNot("", "%s: cases[%d].from: is missing: write who calls, or none", file, i)
		case c.To == "":
			return nil, couldNot("", "%s: cases[%d].to: is missing: write which service is called", file, i)
		case c.Want != "allow" && c.Want != "deny":
			return nil, couldNot("", "%s: cases[%d].want: %q: want allow or deny", file, i, c.Want)
		}
		if c.Name == "" {
			c.Name = strings.Join(strings.Fields(fmt.Sprintf("%s to %s %s %s", c.From, c.To, c.Method, c.Path)), " ")
		}
	}
	return out.Cases, nil
}

// judge answers questions: from files, else by asking the mesh.
func (a *app) judge(cmd *cobra.Command, files []string) (func(explain.AccessQuestion) ([]explain.AccessAnswer, error), error) {
	if len(files) > 0 {
		documents, err := a.read(files)
		if err != nil {
			return nil, err
		}
		s, problems := snapshotOf(documents)
		for _, p := range problems {
			fmt.Fprintf(a.Err, "%s %s\n", a.paint.warn("warning:"), p)
		}
		return func(q explain.AccessQuestion) ([]explain.AccessAnswer, error) {
			out, err := explain.Access(s, q)
			if err != nil {
				return nil, wrong("", "%w", err)
			}
			return out, nil
		}, nil
	}
	conn, err := a.connect()
	if err != nil {
		return nil, err
	}
	return func(q explain.AccessQuestion) ([]explain.AccessAnswer, error) {
		ctx, cancel := a.ask(cmd)
		defer cancel()
		out, err := conn.Access(ctx, q)
		return out, advise(err)
	}, nil
}

// snapshotOf makes a mesh of documents, and says which policies aren't kept to as
// they are written.
func snapshotOf(documents []object.Document) (*mesh.Snapshot, []string) {
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
	var problems []string
	for _, c := range changes {
		s := result.Statuses[c.Ref]
		if s == nil || c.Kind != object.AccessPolicy && c.Kind != object.AuthenticationPolicy {
			continue
		}
		for _, t := range s.Ancestors {
			for _, is := range t.Conditions {
				if bad := is.Type == "Accepted" || is.Type == "ResolvedRefs"; bad != is.True {
					problems = append(problems, fmt.Sprintf("%s: %s: %s", c.Ref, is.Reason, is.Message))
				}
			}
		}
	}
	return result.Snapshot, problems
}

func (a *app) tryCases(cases []accessCase, ask func(explain.AccessQuestion) ([]explain.AccessAnswer, error)) error {
	failed := 0
	for i := range cases {
		c := &cases[i]
		q := explain.AccessQuestion{From: a.caller(c.From), To: a.called(c.To), Method: c.Method, Path: c.Path, Claims: c.Claims}
		for _, name := range sortedNames(c.Headers) {
			q.Headers = append(q.Headers, explain.Header{Name: name, Value: c.Headers[name]})
		}
		answers, err := ask(q)
		if err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
		x := &answers[0]
		got := "deny"
		if x.Allowed {
			got = "allow"
		}
		switch {
		case got != c.Want:
			failed++
			fmt.Fprintf(a.Out, "%s %s: want %s, got %s: %s\n", a.paint.bad("FAIL"), c.Name, c.Want, got, x.Reason)
		case c.Rule != "" && c.Rule != x.By:
			failed++
			fmt.Fprintf(a.Out, "%s %s: %s, but by %s, want %s\n", a.paint.bad("FAIL"), c.Name, got, orElse(x.By, "the default"), c.Rule)
		}
	}
	if failed > 0 {
		fmt.Fprintf(a.Out, "%d of %d cases failed\n", failed, len(cases))
		return exit(ExitWrong)
	}
	fmt.Fprintf(a.Out, "%d cases, all as they should be\n", len(cases))
	return nil
}
