package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/explain"
)

func (a *app) diffCommand() *cobra.Command {
	var files []string
	var output string
	c := &cobra.Command{
		Use:   "diff -f FILE|DIR|-...",
		Short: "What an apply would change: which requests go elsewhere, which policies",
		Long: `Asks the control plane what applying these objects would do, and changes nothing: how
each object differs from the one that is there, which requests would go elsewhere, which
values of policies and which endpoints would change, and which conditions. Requests are
found by trying, before and after, one for each match of the routes.

Exit codes: 0 nothing changes for requests, 1 something does, 2 couldn't tell.`,
		Example: `  tulle diff -f change.yaml
  tulle diff -f routes/ && tulle apply -f routes/    # apply only what has no effect
  tulle diff -f change.yaml -o json | jq '.effect.routes[] | {request, before, after}'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			effect, err := a.diff(cmd, files, output)
			switch {
			case err != nil:
				return unable(err)
			case effect:
				return exit(ExitWrong)
			}
			return nil
		},
	}
	c.Flags().StringArrayVarP(&files, "filename", "f", nil, "`FILE` or directory with objects, - for standard input; may be repeated")
	c.Flags().StringVarP(&output, "output", "o", "", "`FORMAT`: json or yaml")
	_ = c.MarkFlagRequired("filename")
	_ = c.MarkFlagFilename("filename", "yaml", "yml", "json")
	a.namespaceFlag(c)
	completeFormats(c, formatJSON, formatYAML)
	return c
}

// unable gives any error the exit code 2: 1 says that there is an effect.
func unable(err error) error {
	err = advise(err)
	var f *failure
	if errors.As(err, &f) {
		again := *f
		again.code = ExitCouldNot
		return &again
	}
	return &failure{code: ExitCouldNot, err: err}
}

func (a *app) diff(cmd *cobra.Command, files []string, output string) (effect bool, err error) {
	if err := checkFormat(output, formatTable, formatJSON, formatYAML); err != nil {
		return false, err
	}
	documents, err := a.read(files)
	if err != nil {
		return false, err
	}
	var objects [][]byte
	for _, d := range documents {
		data, err := object.Encode(d.Object)
		if err != nil {
			return false, err
		}
		objects = append(objects, data)
	}
	conn, err := a.connect()
	if err != nil {
		return false, err
	}
	ctx, cancel := a.ask(cmd)
	defer cancel()
	answer, err := conn.Diff(ctx, objects)
	if err != nil {
		return false, placed(documents, err)
	}
	effect = !answer.Effect.None() || len(answer.Statuses) > 0
	if output == formatJSON || output == formatYAML {
		data, err := json.Marshal(answer)
		if err != nil {
			return false, err
		}
		return effect, printData(a.Out, output, data)
	}
	for i := range answer.Objects {
		if err := a.printObjectDiff(&answer.Objects[i]); err != nil {
			return false, err
		}
	}
	a.printEffect(&answer.Effect)
	a.printStatusDiffs(answer.Statuses)
	if !effect {
		fmt.Fprintln(a.Out, a.paint.good("Nothing changes for requests."))
	}
	return effect, nil
}

// placed says where the document is that the control plane refuses.
func placed(documents []object.Document, err error) error {
	var said *client.Status
	var i int
	if !errors.As(err, &said) {
		return err
	}
	if n, _ := fmt.Sscanf(said.Message, "objects[%d]:", &i); n != 1 || i < 0 || i >= len(documents) {
		return err
	}
	again := *said
	_, again.Message, _ = strings.Cut(said.Message, ": ")
	return couldNot("", "%w", errors.Join(locate(documents[i], &again)...))
}

func (a *app) printObjectDiff(o *client.ObjectDiff) error {
	name := strings.ToLower(o.Kind) + "/" + o.Name
	if o.Namespace != "" {
		name = strings.ToLower(o.Kind) + " " + o.Namespace + "/" + o.Name
	}
	fmt.Fprintf(a.Out, "%s %s\n", a.paint.bold(name), o.Action)
	if o.Action == "unchanged" {
		return nil
	}
	text := func(data []byte) ([]byte, error) {
		if len(data) == 0 {
			return nil, nil
		}
		return yaml.JSONToYAML(data)
	}
	before, err := text(o.Before)
	if err != nil {
		return err
	}
	after, err := text(o.After)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(diff.Diff("now", before, "then", after))) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "diff "), strings.HasPrefix(line, "--- "), strings.HasPrefix(line, "+++ "):
			continue
		case strings.HasPrefix(line, "+"):
			line = a.paint.good(line)
		case strings.HasPrefix(line, "-"):
			line = a.paint.bad(line)
		case strings.HasPrefix(line, "@@"):
			line = a.paint.faint(line)
		}
		fmt.Fprintf(a.Out, "  %s\n", line)
	}
	return nil
}

func (a *app) printEffect(e *explain.Effect) {
	if len(e.Routes) > 0 {
		fmt.Fprintln(a.Out, "\nRequests that go elsewhere:")
		at := ""
		for _, r := range e.Routes {
			if here := r.At + " " + r.Callers; here != at {
				at = here
				fmt.Fprintf(a.Out, "  %s", a.paint.bold(r.At))
				if r.Callers != "" {
					fmt.Fprintf(a.Out, ", callers in namespace %s", r.Callers)
				}
				fmt.Fprintln(a.Out)
			}
			fmt.Fprintf(a.Out, "    %s\n      %s\n      %s\n", r.Request, a.paint.bad("- "+r.Before), a.paint.good("+ "+r.After))
		}
	}
	if len(e.Policies) > 0 {
		fmt.Fprintln(a.Out, "\nPolicies that change:")
		t := newTable("  AT", "FIELD", "NOW", "THEN")
		for _, p := range e.Policies {
			at := p.At
			if p.Rule != "" {
				at += " " + p.Rule
			}
			t.row("  "+at, p.Field, orDash(p.Before), orDash(p.After))
		}
		t.write(a.Out)
	}
	if len(e.Endpoints) > 0 {
		fmt.Fprintln(a.Out, "\nEndpoints that change:")
		for _, p := range e.Endpoints {
			fmt.Fprintf(a.Out, "  %s\n", a.paint.bold(p.At))
			for _, x := range p.Removed {
				fmt.Fprintf(a.Out, "    %s\n", a.paint.bad("- "+x))
			}
			for _, x := range p.Added {
				fmt.Fprintf(a.Out, "    %s\n", a.paint.good("+ "+x))
			}
		}
	}
	if e.More > 0 {
		fmt.Fprintf(a.Out, "\n%d more changes aren't shown.\n", e.More)
	}
}

func (a *app) printStatusDiffs(list []client.StatusDiff) {
	if len(list) == 0 {
		return
	}
	fmt.Fprintln(a.Out, "\nConditions that change:")
	t := newTable("  OBJECT", "CONDITION", "THEN", "REASON", "MESSAGE")
	for _, s := range list {
		then := "False"
		if s.True {
			then = "True"
		}
		if s.True == (s.Type != "Conflicted") {
			then = a.paint.good(then)
		} else {
			then = a.paint.bad(then)
		}
		t.row("  "+s.Object, s.Type, then, orDash(s.Reason), orDash(s.Message))
	}
	t.write(a.Out)
}
