package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/proxy/record"
)

// errEnough ends a tap that has shown as many events as were wanted.
var errEnough = errors.New("enough")

func (a *app) tapCommand() *cobra.Command {
	var r client.TapRequest
	var output string
	var most int
	c := &cobra.Command{
		Use:   "tap SERVICE | proxy/NAME",
		Short: "Watch requests as they pass the proxies of a service",
		Long: `Shows each request that passes the proxies of a service's workloads, those that
come in and those that their programs send, and each opaque TCP connection, when it
ends: who asked, for what, how it was answered and after how long, and what access
rules said. proxy/NAME watches one proxy, a workload's or a gateway's.

The flags narrow that; the proxies themselves leave out what isn't wanted. Each proxy
tells at most --rate events a second, and says how many more there were. Nothing is
kept, and while nobody watches it costs nothing. There are no header fields, bodies
or queries in it, for those may be secrets.

Watching needs the role edit in the proxies' namespace, and is written to the audit
log (tulle audit). Ctrl-C ends it.

Exit codes: 0 watched, 1 there is no such service or proxy, 2 couldn't ask.`,
		Example: `  tulle tap cart
  tulle tap cart --direction inbound --status 5xx
  tulle tap payment --denied                     # what access rules refuse, or would
  tulle tap proxy/edge --path /api --method POST --max 10
  tulle tap cart --from web.default -o json | jq '{path, status, duration_ms}'`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(output, formatTable, formatJSON); err != nil {
				return err
			}
			if err := a.tapOf(&r, args[0]); err != nil {
				return err
			}
			if most < 0 {
				return couldNot("", "--max %d: want a number of events, 0 for any", most)
			}
			conn, err := a.connect()
			if err != nil {
				return err
			}
			return a.tap(cmd.Context(), conn, r, args[0], output, most)
		},
	}
	f := c.Flags()
	f.StringVar(&r.Direction, "direction", "", "only `DIRECTION`: inbound, outbound or edge")
	f.StringVar(&r.To, "to", "", "only requests for this service, `NAME`, NAME.NAMESPACE or either with :PORT")
	f.StringVar(&r.From, "from", "", "only callers of this `IDENTITY`, ACCOUNT.NAMESPACE or a SPIFFE id")
	f.StringVar(&r.Method, "method", "", "only this `METHOD`")
	f.StringVar(&r.Path, "path", "", "only paths that begin with `PREFIX`")
	f.StringVar(&r.Status, "status", "", "only this `STATUS` or class, such as 503 or 5xx")
	f.BoolVar(&r.Denied, "denied", false, "only what access rules refuse, or would but for their mode Audit")
	f.BoolVar(&r.Failed, "failed", false, "only what went badly: a 5xx or no answer, or refused by the proxy")
	f.IntVar(&r.Rate, "rate", record.DefaultRate, "at most `N` events a second from each proxy")
	f.IntVar(&most, "max", 0, "end after `N` events")
	f.DurationVar(&r.Time, "for", 10*time.Minute, "end after this time")
	f.StringVarP(&output, "output", "o", "", "`FORMAT`: json, a line for each event")
	a.namespaceFlag(c)
	completeFormats(c, formatJSON)
	_ = c.RegisterFlagCompletionFunc("to", a.completeServices)
	return c
}

// tapOf reads what is to be watched, and checks the filter.
func (a *app) tapOf(r *client.TapRequest, target string) error {
	if proxy, ok := strings.CutPrefix(target, "proxy/"); ok {
		namespace, name := a.proxyName(proxy)
		r.Proxy = name + "." + namespace
	} else {
		r.Service = a.qualified(target)
	}
	if name, port, ok := strings.Cut(r.To, ":"); ok {
		r.To = a.qualified(name) + ":" + port
	} else if r.To != "" {
		r.To = a.qualified(r.To)
	}
	if r.Time < time.Second || r.Time > record.MaxTime {
		return couldNot("", "--for %s: want 1s to %s", r.Time, record.MaxTime)
	}
	if r.Rate < 1 {
		return couldNot("", "--rate %d: want 1 to %d events a second", r.Rate, record.MaxRate)
	}
	if _, err := record.ParseFilter(r.Values()); err != nil {
		return couldNot("", "--%w", err)
	}
	return nil
}

func (a *app) tap(ctx context.Context, conn *client.Client, r client.TapRequest, target, output string, most int) error {
	shown := 0
	watching := func(n int) {
		if n == 0 {
			fmt.Fprintf(a.Err, "%s no proxy of %s is there yet; waiting\n", a.paint.warn("note:"), plain(target))
			return
		}
		what := "proxies"
		if n == 1 {
			what = "proxy"
		}
		fmt.Fprintln(a.Err, a.paint.faint(fmt.Sprintf("watching %d %s of %s; Ctrl-C ends it", n, what, plain(target))))
		if output != formatJSON {
			fmt.Fprintln(a.Out, a.paint.bold(tapHead))
		}
	}
	err := conn.Tap(ctx, r, watching, func(e client.Tapped) error {
		switch {
		case e.Error != "":
			_, err := fmt.Fprintf(a.Err, "%s %s: %s\n", a.paint.warn("note:"), plain(e.Proxy), plain(e.Error))
			return err
		case e.Missed > 0:
			_, err := fmt.Fprintf(a.Err, "%s %s: %d more that aren't shown: more than --rate a second\n", a.paint.warn("note:"), plain(e.Proxy), e.Missed)
			return err
		case e.Told == nil:
			return nil
		}
		if err := a.printTapped(&e, output); err != nil {
			return err
		}
		if shown++; most > 0 && shown >= most {
			return errEnough
		}
		return nil
	})
	switch {
	case errors.Is(err, errEnough) || ctx.Err() != nil:
		return nil
	case client.IsNotFound(err):
		return wrong("`tulle get services -A` and `tulle diagnostics proxy` list what there is", "%w", err)
	case err != nil:
		return advise(err)
	}
	return nil
}

const tapFormat = "%-12s  %-16s  %-8s  %-22s  %-22s  %-28s  %6s  %8s  %s"

var tapHead = strings.TrimRight(fmt.Sprintf(tapFormat, "TIME", "PROXY", "WAY", "FROM", "TO", "REQUEST", "STATUS", "TOOK", "WHY"), " ")

// printTapped prints one event.
func (a *app) printTapped(e *client.Tapped, output string) error {
	if output == formatJSON {
		data, err := json.Marshal(e)
		if err == nil {
			_, err = fmt.Fprintln(a.Out, string(legible(data)))
		}
		return err
	}
	request := strings.TrimSpace(e.Method + " " + e.Path)
	if e.Protocol == "tcp" {
		request = fmt.Sprintf("tcp %d/%d bytes", e.Received, e.Answered)
	}
	status := fmt.Sprintf("%6s", statusText(e.Status))
	switch {
	case e.Protocol == "tcp" && e.Reason == "":
	case e.Status >= 500 || e.Status == 0:
		status = a.paint.bad(status)
	case e.Status >= 400:
		status = a.paint.warn(status)
	}
	line := fmt.Sprintf(tapFormat, e.Time.UTC().Format("15:04:05.000"), plain(e.Proxy), plain(e.Direction), orDash(plain(tapFrom(e.Told))), orDash(plain(e.Service)),
		plain(request), status, took(e.Duration), plain(tapWhy(e.Told)))
	_, err := fmt.Fprintln(a.Out, strings.TrimRight(line, " "))
	return err
}

// tapFrom is who asked: ACCOUNT.NAMESPACE, or an address.
func tapFrom(t *record.Told) string {
	if _, path, ok := strings.Cut(t.Source, "/ns/"); ok {
		if namespace, account, ok := strings.Cut(path, "/sa/"); ok {
			return account + "." + namespace
		}
	}
	return orElse(t.Source, t.SourceAddress)
}

// tapWhy is what there is to say beside the status.
func tapWhy(t *record.Told) string {
	var out []string
	if t.Decision != "" && t.Decision != "allowed" {
		out = append(out, t.Decision+" by "+orElse(t.AccessRule, "the default"))
	}
	if t.Reason != "" {
		out = append(out, t.Reason)
	}
	if t.GRPCStatus != nil && *t.GRPCStatus != 0 {
		out = append(out, fmt.Sprintf("grpc-status %d", *t.GRPCStatus))
	}
	if t.Tries > 1 {
		out = append(out, fmt.Sprintf("%d tries", t.Tries))
	}
	if t.ID != "" {
		out = append(out, "id "+t.ID)
	}
	return strings.Join(out, ", ")
}
