package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"tulle.dev/tulle/internal/control/api/client"
)

// printDump shows what a proxy believes for people: the tree of its dump, lists
// of uniform values as tables.
func (a *app) printDump(dump json.RawMessage) error {
	var m map[string]any
	if err := json.Unmarshal(dump, &m); err != nil {
		return couldNot("", "the proxy's dump: %w", err)
	}
	writeTree(a.Out, m, "")
	return nil
}

func (a *app) diagnosticsConnections() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:               "connections PROXY",
		Short:             "The connections a proxy has open",
		Example:           `  tulle diagnostics connections web`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeProxies,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(output, formatTable, formatJSON, formatYAML); err != nil {
				return err
			}
			conn, err := a.connect()
			if err != nil {
				return err
			}
			ctx, cancel := a.ask(cmd)
			defer cancel()
			namespace, name := a.proxyName(args[0])
			path := "/tulle/v1/proxies/" + url.PathEscape(namespace) + "/" + url.PathEscape(name) + "/connections"
			answer, err := conn.Do(ctx, http.MethodGet, path, nil)
			if client.IsNotFound(err) {
				return wrong("`tulle diagnostics proxy` lists them all", "there is no proxy %q in namespace %q", name, namespace)
			}
			if err != nil {
				return explain(err)
			}
			defer answer.Body.Close()
			var data json.RawMessage
			if err := json.NewDecoder(answer.Body).Decode(&data); err != nil {
				return couldNot("", "the proxy's connections: %w", err)
			}
			if output == formatJSON || output == formatYAML {
				return printData(a.Out, output, data)
			}
			var v any
			if err := json.Unmarshal(data, &v); err != nil {
				return err
			}
			if list, ok := v.([]any); ok && len(list) == 0 {
				fmt.Fprintln(a.Err, "no connections")
				return nil
			}
			writeTree(a.Out, v, "")
			return nil
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "json or yaml")
	a.namespaceFlag(c)
	completeFormats(c, formatJSON, formatYAML)
	return c
}
