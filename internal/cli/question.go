package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/spf13/cobra"

	"tulle.dev/tulle/internal/control/api/client"
)

// question is one run of a command that asks the control plane.
type question struct {
	ctx    context.Context // ends when the answer takes too long
	conn   *client.Client
	args   []string
	format string
	// verdict is what the command returns once the answer has been shown.
	verdict error
}

func (q *question) wide() bool { return q.format == formatWide }

// asks completes c, a command that asks the control plane and shows the answer:
// as JSON or YAML, or in the table and the other formats by show. The command
// gets the flag -o for the formats.
func asks[T any](a *app, c *cobra.Command, ask func(*question) (T, error), show func(*question, T) error, formats ...string) *cobra.Command {
	q := &question{}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkFormat(q.format, append([]string{formatTable}, formats...)...); err != nil {
			return err
		}
		conn, err := a.connect()
		if err != nil {
			return err
		}
		ctx, cancel := a.ask(cmd)
		defer cancel()
		q.ctx, q.conn, q.args = ctx, conn, args
		answer, err := ask(q)
		if err != nil {
			return advise(err)
		}
		if q.format == formatJSON || q.format == formatYAML {
			data, err := json.Marshal(answer)
			if err != nil {
				return err
			}
			if err := printData(a.Out, q.format, data); err != nil {
				return err
			}
		} else {
			if q.format != formatPEM {
				cleanse(reflect.ValueOf(&answer)) // proxies said some of it
			}
			if err := show(q, answer); err != nil {
				return err
			}
		}
		return q.verdict
	}
	last := len(formats) - 1
	c.Flags().StringVarP(&q.format, "output", "o", formatTable,
		fmt.Sprintf("`FORMAT`: %s or %s", strings.Join(formats[:last], ", "), formats[last]))
	completeFormats(c, formats...)
	return c
}
