package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/object"
)

// maxFile bounds one file of objects, in bytes.
const maxFile = 16 << 20

func (a *app) applyCommand() *cobra.Command {
	var files []string
	var dryRun bool
	c := &cobra.Command{
		Use:   "apply -f FILE|DIR|-...",
		Short: "Make objects be as files say",
		Long: `Creates the objects that files describe, or changes those that exist. Every
document is read and checked before the first one is sent: a mistake is shown with
its file, line and field, and nothing is changed.

A directory stands for its .yaml, .yml and .json files (not those of directories
in it); - reads standard input. Prints created, configured or unchanged for each.`,
		Example: `  tulle apply -f shop.yaml
  tulle apply -f services/ -f routes.yaml
  tulle apply -f shop.yaml --dry-run
  cat cart.yaml | tulle apply -f -`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			documents, err := a.read(files)
			if err != nil {
				return err
			}
			conn, err := a.connect()
			if err != nil {
				return err
			}
			return a.apply(cmd, conn, documents, dryRun)
		},
	}
	c.Flags().StringArrayVarP(&files, "filename", "f", nil, "`FILE` or directory with objects, - for standard input; may be repeated")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "let the control plane check everything and change nothing")
	_ = c.MarkFlagRequired("filename")
	_ = c.MarkFlagFilename("filename", "yaml", "yml", "json")
	a.namespaceFlag(c)
	return c
}

// apply sends documents in order and prints what became of each.
func (a *app) apply(cmd *cobra.Command, conn *client.Client, documents []object.Document, dryRun bool) error {
	var failures []error
	for _, d := range documents {
		ctx, cancel := a.ask(cmd)
		result, err := put(ctx, conn, d.Object, dryRun)
		cancel()
		var status *client.Status
		switch {
		case errors.As(err, &status) && slices.Contains(refusals, status.Reason):
			failures = append(failures, locate(d, status)...)
			fmt.Fprintf(a.Out, "%s %s\n", nameOf(d.Object), a.paint.bad("refused"))
			continue
		case err != nil:
			return advise(err)
		}
		if result != "unchanged" {
			result = a.paint.good(result)
		}
		if dryRun {
			result += " (dry run)"
		}
		fmt.Fprintf(a.Out, "%s %s\n", nameOf(d.Object), result)
	}
	if len(failures) > 0 {
		return wrong("", "%w", errors.Join(failures...))
	}
	return nil
}

// refusals are the answers that speak about one object: the next one may be fine.
var refusals = []string{client.ReasonInvalid, client.ReasonBadRequest, client.ReasonConflict, client.ReasonNotFound, client.ReasonForbidden}

// put stores an object and says what that did: "created", "configured" or
// "unchanged".
func put(ctx context.Context, conn *client.Client, o object.Object, dryRun bool) (string, error) {
	body, err := object.Encode(o)
	if err != nil {
		return "", err
	}
	applied, err := conn.Apply(ctx, resource(object.Of(o)), o.GetNamespace(), o.GetName(), body, dryRun)
	if err != nil {
		return "", err
	}
	return applied.Action, nil
}

// locate adds the document's place to what the control plane found wrong.
func locate(d object.Document, s *client.Status) []error {
	place := fmt.Sprintf("%s:%d: %s", d.File, d.Line, nameOf(d.Object))
	if s.Details == nil || len(s.Details.Causes) == 0 {
		return []error{fmt.Errorf("%s: %s", place, s.Error())}
	}
	var all []error
	for _, cause := range s.Details.Causes {
		field := cause.Field
		if field != "" {
			field += ": "
		}
		all = append(all, fmt.Errorf("%s: %s%s", place, field, cause.Message))
	}
	return all
}

// read decodes every document of files, directories and standard input.
func (a *app) read(files []string) ([]object.Document, error) {
	var documents []object.Document
	var problems []error
	for _, name := range files {
		sources, err := expand(name)
		if err != nil {
			return nil, couldNot("", "%w", err)
		}
		for _, source := range sources {
			data, shown, err := a.readSource(source)
			if err != nil {
				return nil, couldNot("", "%w", err)
			}
			decoded, err := object.Decode(shown, data)
			if err != nil {
				problems = append(problems, err)
			}
			documents = append(documents, decoded...)
		}
	}
	if len(problems) > 0 {
		return nil, wrong("nothing was changed", "%w", errors.Join(problems...))
	}
	if len(documents) == 0 {
		return nil, wrong("", "%s: no objects in it", strings.Join(files, ", "))
	}
	for _, d := range documents {
		if kind := object.Of(d.Object); kind.Namespaced && d.Object.GetNamespace() == "" {
			d.Object.SetNamespace(a.namespaceOrDefault())
		}
	}
	return documents, nil
}

func (a *app) namespaceOrDefault() string {
	if a.namespace == "" {
		return "default"
	}
	return a.namespace
}

func (a *app) readSource(name string) (data []byte, shown string, err error) {
	in, shown := a.In, "standard input"
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, "", err
		}
		defer f.Close()
		in, shown = f, name
	}
	data, err = io.ReadAll(io.LimitReader(in, maxFile+1))
	if err != nil {
		return nil, "", fmt.Errorf("read %s: %w", shown, err)
	}
	if len(data) > maxFile {
		return nil, "", fmt.Errorf("%s: longer than %d MB", shown, maxFile>>20)
	}
	return data, shown, nil
}

// expand turns a directory into its files.
func expand(name string) ([]string, error) {
	if name == "-" {
		return []string{name}, nil
	}
	info, err := os.Stat(name)
	if err != nil {
		var path *fs.PathError
		if errors.As(err, &path) {
			return nil, fmt.Errorf("%s: %w", name, path.Err)
		}
		return nil, err
	}
	if !info.IsDir() {
		return []string{name}, nil
	}
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if !e.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(e.Name())) {
			files = append(files, filepath.Join(name, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s: no .yaml, .yml or .json file in it", name)
	}
	return files, nil
}

func (a *app) deleteCommand() *cobra.Command {
	var files []string
	var missingOK bool
	c := &cobra.Command{
		Use:   "delete KIND NAME... | KIND/NAME... | -f FILE",
		Short: "Delete objects",
		Example: `  tulle delete httproute shop
  tulle delete service/cart workload/cart-1
  tulle delete -f shop.yaml --ignore-not-found`,
		ValidArgsFunction: a.completeObjects,
		RunE: func(cmd *cobra.Command, args []string) error {
			var targets []ref
			namespaces := map[ref]string{}
			switch {
			case len(files) > 0 && len(args) > 0:
				return couldNot("", "give either -f or names, not both")
			case len(files) > 0:
				documents, err := a.read(files)
				if err != nil {
					return err
				}
				for _, d := range slices.Backward(documents) {
					r := ref{object.Of(d.Object), d.Object.GetName()}
					targets, namespaces[r] = append(targets, r), d.Object.GetNamespace()
				}
			case len(args) == 0:
				return couldNot("see `tulle delete --help`", "what should be deleted?")
			default:
				refs, err := a.parseRefs(args, false)
				if err != nil {
					return err
				}
				for _, r := range refs {
					targets, namespaces[r] = append(targets, r), a.namespace
				}
			}
			conn, err := a.connect()
			if err != nil {
				return err
			}
			var failures []error
			for _, r := range targets {
				ctx, cancel := a.ask(cmd)
				err := conn.Delete(ctx, resource(r.kind), namespaces[r], r.name, false)
				cancel()
				shown := strings.ToLower(r.kind.Name) + "/" + r.name
				switch {
				case client.IsNotFound(err) && missingOK:
				case client.IsNotFound(err):
					failures = append(failures, fmt.Errorf("there is no %s%s", shown, inNamespace(r.kind, namespaces[r])))
				case err != nil:
					return advise(err)
				default:
					fmt.Fprintf(a.Out, "%s deleted\n", shown)
				}
			}
			if len(failures) > 0 {
				return wrong("--ignore-not-found makes this fine", "%w", errors.Join(failures...))
			}
			return nil
		},
	}
	c.Flags().StringArrayVarP(&files, "filename", "f", nil, "`FILE` or directory whose objects to delete; may be repeated")
	c.Flags().BoolVar(&missingOK, "ignore-not-found", false, "an object that isn't there is no error")
	_ = c.MarkFlagFilename("filename", "yaml", "yml", "json")
	a.namespaceFlag(c)
	return c
}
