package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/object"
)

// watchRests is how long a watch that has ended rests before it goes on.
const watchRests = 250 * time.Millisecond

// watch prints the objects of a kind and each change, a line for one, until ctx ends.
func (a *app) watch(ctx context.Context, conn *client.Client, refs []ref, namespace, output string, only map[string]string) error {
	if len(refs) != 1 {
		return couldNot("run one command for each", "--watch is for one kind, or one object")
	}
	r := refs[0]
	if r.name != "" && namespace == "" && r.kind.Namespaced {
		return couldNot("leave out -A, or the name", "a name is of one namespace")
	}
	if output == formatYAML {
		return couldNot("-o json prints a line for each", "--watch has no yaml")
	}
	after := ""
	seen := map[string]bool{}
	for {
		err := conn.Watch(ctx, resource(r.kind), namespace, after, func(e client.Event) error {
			o, err := object.Unmarshal(r.kind, e.Object)
			if err != nil {
				return couldNot("", "an event of the control plane: %w", err)
			}
			after = o.GetResourceVersion()
			key := o.GetNamespace() + "/" + o.GetName()
			if e.Type == "BOOKMARK" || r.name != "" && o.GetName() != r.name {
				return nil
			}
			switch {
			case e.Type == "DELETED" && !seen[key] || e.Type != "DELETED" && !seen[key] && !selects(only, o.GetLabels()):
				return nil // it never was one of those
			case e.Type == "DELETED":
				delete(seen, key)
			default:
				seen[key] = true
			}
			identify(o, r.kind)
			return a.printEvent(e, o, namespace == "", output)
		})
		var said *client.Status
		switch {
		case ctx.Err() != nil:
			return nil // that is how one ends it
		case errors.As(err, &said) && said.Reason == client.ReasonExpired:
			after = ""
			clear(seen)
		case err != nil:
			return advise(err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(watchRests):
		}
	}
}

// printEvent prints one line.
func (a *app) printEvent(e client.Event, o object.Object, withNamespace bool, output string) error {
	kind := object.Of(o)
	switch output {
	case formatJSON:
		data, err := json.Marshal(e)
		if err == nil {
			_, err = fmt.Fprintln(a.Out, string(legible(data)))
		}
		return err
	case formatName:
		_, err := fmt.Fprintf(a.Out, "%-8s  %s\n", e.Type, nameOf(o))
		return err
	}
	name := o.GetName()
	if withNamespace && kind.Namespaced {
		name = o.GetNamespace() + "/" + name
	}
	cells := []string{fmt.Sprintf("%-8s  %-24s", e.Type, name)}
	if e.Type != "DELETED" {
		for _, c := range a.columnsOf(kind, output == formatWide) {
			cells = append(cells, strings.ToLower(c.title)+"="+orDash(c.cell(o)))
		}
	}
	_, err := fmt.Fprintln(a.Out, strings.TrimRight(strings.Join(cells, "  "), " "))
	return err
}
