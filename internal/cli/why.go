package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/proxy/story"
)

func (a *app) whyCommand() *cobra.Command {
	var service string
	var last int
	c := &cobra.Command{
		Use:   "why ID | X-REQUEST-ID | --last [N]",
		Short: "Why one request failed, was refused or was slow",
		Long: `Every proxy keeps the last requests that failed, were refused or waited unusually
long. An answer like that carries a field tulle-id; this command asks all proxies for
what they know of it and tells the story: where the request went and by which rule,
each try with its endpoint and time, what the serving proxy says, and what to do.

The x-request-id that the caller sent finds the request as well. Without an id,
--last lists what went badly of late.

Exit codes: 0 found, 1 no proxy knows the request, 2 couldn't ask.`,
		Example: `  curl -i http://cart:8080/items              # tulle-id: 5c42458fba19d333
  tulle why 5c42458fba19d333

  tulle why --last                            # the last 20
  tulle why --last 100 --service cart -o json | jq '.stories[] | {id, status, reason}'`,
		Args: func(_ *cobra.Command, args []string) error {
			if last != 0 && len(args) == 1 { // --last 100: the flag takes its value only with =
				if n, err := strconv.Atoi(args[0]); err == nil {
					last = n
				}
			}
			switch {
			case last != 0 && len(args) > 0 && args[0] != strconv.Itoa(last):
				return fmt.Errorf("either an id or --last")
			case last == 0 && len(args) != 1 || len(args) > 1:
				return fmt.Errorf("want one id, or --last")
			case last == 0 && service != "":
				return fmt.Errorf("--service goes with --last")
			case last < 0 || last > story.MaxLast:
				return fmt.Errorf("--last %d: want 1 to %d", last, story.MaxLast)
			}
			return nil
		},
		ValidArgsFunction: a.completeStories,
	}
	c.Flags().IntVar(&last, "last", 0, "list the last `N` requests that went badly (default 20)")
	c.Flags().Lookup("last").NoOptDefVal = "20"
	c.Flags().StringVar(&service, "service", "", "with --last: only requests to this service, `NAME` or NAME.NAMESPACE")
	a.namespaceFlag(c)
	_ = c.RegisterFlagCompletionFunc("service", a.completeServices)
	ask := func(q *question) (*client.Stories, error) {
		if last != 0 {
			if service != "" {
				service = a.qualified(service)
			}
			return q.conn.WhyLast(q.ctx, service, last)
		}
		answer, err := q.conn.Why(q.ctx, q.args[0])
		if client.IsNotFound(err) {
			return nil, wrong("a proxy keeps the last few hundred, and none when it has ended, as those of short commands have; `tulle why --last` lists them", "no proxy knows a request %q", q.args[0])
		}
		if err == nil && len(answer.Stories) == 0 {
			q.verdict = exit(ExitWrong)
		}
		return answer, err
	}
	return asks(a, c, ask, func(q *question, answer *client.Stories) error {
		if last != 0 {
			a.printLast(answer)
			return nil
		}
		return a.printStory(q.args[0], answer)
	}, formatJSON, formatYAML)
}

func (a *app) printLast(answer *client.Stories) {
	a.printSilent(answer)
	if len(answer.Stories) == 0 {
		fmt.Fprintln(a.Err, "no request went badly of late, as far as the proxies remember")
		return
	}
	t := newTable("ID", "WHEN", "PROXY", "DIRECTION", "KIND", "STATUS", "TOOK", "REQUEST", "SERVICE", "REASON")
	for i := range answer.Stories {
		s := &answer.Stories[i]
		t.row(plain(s.ID), s.At.UTC().Format("15:04:05.000"), plain(s.Proxy), plain(s.Direction), a.kind(s.Kind), statusText(s.Status), took(s.Total),
			plain(strings.TrimSpace(s.Method+" "+s.Path)), orDash(plain(s.Service)), orDash(plain(s.Reason)))
	}
	t.write(a.Out)
}

func (a *app) kind(k string) string {
	switch k {
	case "failed":
		return a.paint.bad(k)
	case "slow", "refused":
		return a.paint.warn(k)
	}
	return plain(k)
}

func statusText(status int) string {
	if status == 0 {
		return "-"
	}
	return strconv.Itoa(status)
}

// took writes milliseconds.
func took(ms float64) string {
	d := time.Duration(ms * float64(time.Millisecond))
	switch {
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(time.Microsecond).String()
}

func (a *app) printSilent(answer *client.Stories) {
	for _, s := range answer.Silent {
		fmt.Fprintf(a.Err, "%s %s couldn't be asked: %s\n", a.paint.warn("note:"), plain(s.Proxy), plain(s.Error))
	}
}

// printStory tells of one request.
func (a *app) printStory(id string, answer *client.Stories) error {
	a.printSilent(answer)
	if len(answer.Stories) == 0 {
		return wrong("ask again when every proxy is connected: `tulle check`", "no proxy that could be asked knows a request %q", id)
	}
	list := answer.Stories
	first := &list[0]
	what := strings.TrimSpace(plain(first.Method) + " http://" + plain(first.Host) + plain(first.Path))
	if first.Method == story.TCP {
		what = "TCP from " + plain(first.Path)
		if first.Host != "" {
			what += " for " + plain(first.Host)
		}
	}
	fmt.Fprintf(a.Out, "%s %s at %s, after %s.\n", a.paint.bold(what), a.outcome(first), first.At.UTC().Format("2006-01-02 15:04:05.000 UTC"), took(first.Total))
	for i := range list {
		s := &list[i]
		var next *client.Story
		if i+1 < len(list) && list[i+1].ID == s.Peer {
			next = &list[i+1]
		}
		fmt.Fprintf(a.Out, "\n%s (%s, %s)\n", a.paint.bold(plain(s.Proxy)), part(s), a.paint.faint("id "+plain(s.ID)))
		for _, line := range sentences(s, next) {
			fmt.Fprintf(a.Out, "  %s\n", line)
		}
	}
	fmt.Fprintf(a.Out, "\n%s %s\n", a.paint.bold("What to do:"), whatToDo(list))
	return nil
}

func (a *app) outcome(s *client.Story) string {
	switch s.Kind {
	case "failed":
		if s.Status >= 500 {
			return a.paint.bad("failed with " + strconv.Itoa(s.Status))
		}
		return a.paint.bad("failed")
	case "refused":
		if s.Status == 0 {
			return a.paint.warn("was refused")
		}
		return a.paint.warn("was refused with " + strconv.Itoa(s.Status))
	}
	return a.paint.warn("was slow")
}

// part is what a proxy was in the request.
func part(s *client.Story) string {
	switch s.Direction {
	case "inbound":
		return "the serving program's proxy"
	case "edge":
		return "a gateway's proxy"
	}
	return "the caller's proxy"
}

// sentences tell what one proxy saw. next is the story of the proxy that answered
// it, if that is known.
func sentences(s *client.Story, next *client.Story) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if s.RequestID != "" {
		say("Its x-request-id was %s.", plain(s.RequestID))
	}
	if s.Caller != "" {
		say("It came from %s.", plain(s.Caller))
	}
	switch {
	case s.Rule != "" && s.Backend != "":
		say("The rule %s sent it to %s.", plain(s.Rule), plain(s.Backend))
	case s.Rule != "":
		say("It met the rule %s.", plain(s.Rule))
	case s.Service != "" && s.Direction != "inbound":
		say("It was for %s; no route has a say there.", plain(s.Service))
	case s.Service == "":
		say("It was not known where to send it.")
	}
	for i, t := range s.Tries {
		say("%s", tryText(i, &t, s))
	}
	if s.Tried > len(s.Tries) {
		say("%d more tries followed.", s.Tried-len(s.Tries))
	}
	if others := notAsked(s); others != "" && s.Direction != "inbound" {
		say("Not asked: %s.", others)
	}
	if s.Policy != "" {
		say("The policy %s decided that.", plain(s.Policy))
	}
	switch {
	case s.Text != "":
		say("It answered %d itself: %s", s.Status, plain(strings.ToLower(s.Text[:1])+s.Text[1:]))
	case s.Method == story.TCP:
		say("The connection was reset after %s: %s.", took(s.Total), strings.ReplaceAll(plain(s.Reason), "_", " "))
	case s.Reason == "client_gone":
		say("The client went away after %s, before an answer began.", took(s.Total))
	case s.Reason != "":
		say("The answer broke off after %s: %s.", took(s.Total), plain(s.Reason))
	case next != nil:
		say("It passed on what the next proxy answered, %d.", s.Status)
	case s.Direction == "inbound":
		say("It passed on the program's own answer, %d.", s.Status)
	default:
		say("It passed on the answer, %d.", s.Status)
	}
	return out
}

func tryText(i int, t *story.ToldTry, s *client.Story) string {
	who := plain(t.Endpoint)
	if t.Workload != "" {
		who = plain(t.Workload) + " at " + who
	}
	var how string
	switch {
	case t.Outcome == "answered":
		how = fmt.Sprintf("answered %d after %s", t.Status, took(t.Ended-t.Began))
		if s.First > 0 && t.Ended > s.First && i == len(s.Tries)-1 {
			how = fmt.Sprintf("its answer, %d, began after %s", t.Status, took(s.First-t.Began))
		}
	case t.Outcome == "given_up":
		how = fmt.Sprintf("given up after %s", took(t.Ended-t.Began))
	default:
		how = fmt.Sprintf("%s, after %s", strings.ReplaceAll(plain(t.Outcome), "_", " "), took(t.Ended-t.Began))
	}
	switch {
	case t.Sent == 0 && t.Outcome == "given_up":
		how += ", without a connection"
	case t.Reused:
		how += ", over a connection that was there already"
	case t.Sent > 0 && t.Secured > 0:
		how += fmt.Sprintf(", of which %s to connect and %s for TLS", took(t.Secured-t.Began), took(t.Sent-t.Secured))
	case t.Secured > 0:
		how += fmt.Sprintf("; it was connected after %s, then TLS began", took(t.Secured-t.Began))
	case t.Sent > 0:
		how += fmt.Sprintf(", of which %s to connect", took(t.Sent-t.Began))
	}
	return fmt.Sprintf("Try %d: %s: %s.", i+1, who, how)
}

// notAsked names the endpoints that weren't tried, and why.
func notAsked(s *client.Story) string {
	var out []string
	for _, e := range s.Endpoints {
		if e.State == "tried" {
			continue
		}
		who := e.Workload
		if who == "" {
			who = e.Endpoint
		}
		out = append(out, fmt.Sprintf("%s (%s)", plain(who), strings.ReplaceAll(plain(e.State), "_", " ")))
	}
	if s.Known > len(s.Endpoints) {
		out = append(out, fmt.Sprintf("%d more", s.Known-len(s.Endpoints)))
	}
	return strings.Join(out, ", ")
}

// whatToDo is advice about the innermost proxy's verdict.
func whatToDo(list []client.Story) string {
	s := &list[0]
	for i := range list { // follow who answered whom
		if list[i].ID == s.Peer {
			s = &list[i]
		}
	}
	service := plain(s.Service)
	name, _, _ := strings.Cut(service, ":")
	at := s.At.UTC().Format("15:04:05")
	switch s.Reason {
	case "":
		switch {
		case s.Kind == "slow" && len(s.Tries) > 0:
			if t := s.Tries[len(s.Tries)-1]; t.Sent-t.Began > (s.First-t.Began)/2 {
				return fmt.Sprintf("most of the time went into connecting to %s: is the network slow, or the machine busy?", plain(t.Endpoint))
			}
			if s.Direction == "inbound" {
				return fmt.Sprintf("the program of %s took that long itself: look at what it did at %s.", name, at)
			}
			return fmt.Sprintf("%s took that long: `tulle stat` shows whether it always does.", orElse(name, "the endpoint"))
		case s.Direction == "inbound":
			return fmt.Sprintf("the program of %s answered %d itself: look at its log at %s.", name, s.Status, at)
		}
		return fmt.Sprintf("what is behind %s answered %d itself: look at its log at %s.", orElse(name, "the endpoint"), s.Status, at)
	case "connection_refused":
		return "nothing listens there: is the program running, and on that port? " + look(name)
	case "connection_timeout", "destination_ip_unroutable":
		return "the endpoint can't be reached: is its machine up, does a firewall stand between? " + look(name)
	case "peer_expired":
		return "its connection was older than the certificate that it was made with, and the Mesh object says that such end (expiredConnections)."
	case "token_ended":
		return "the caller's token ended while that was under way: what goes on for long is begun again with a fresh one."
	case "wrong_workload":
		return "the endpoint's address has come to another workload, which was sent nothing: the endpoints follow when its proxy registers. " + look(name)
	case "tls_certificate_error":
		return "the two proxies don't accept each other's certificate: `tulle check` and `tulle identity` show whose has ended, or whether another program has the address."
	case "access_denied", "peer_identity_denied":
		return "no access rule allows that: if it should be allowed, change " + orElse(plain(s.Policy), "the access policy") + "; `tulle auth can-i` tells beforehand."
	case "egress_denied":
		return "that is outside the mesh, and no EgressPolicy allows it: `tulle describe` of those shows what they allow."
	case "destination_not_found":
		if s.Method == story.TCP {
			return "no route is for this connection, or it names a backend that doesn't exist: `tulle describe` of the route and its parent says what they are for."
		}
		if s.Rule != "" {
			return fmt.Sprintf("the rule %s names a backend that doesn't exist: `tulle describe` of that route says which.", plain(s.Rule))
		}
		return "no route is for this request: `tulle explain request` with the same method, URL and headers says what each rule misses."
	case "destination_unavailable":
		return "no endpoint was there that may be asked: " + look(name)
	case "connection_limit_reached":
		if s.Direction == "inbound" {
			return "the service has as much to do as it can: run more of it, or look at overload in its TrafficPolicy."
		}
		return "a limit of connections or requests is reached: run more of the service, or raise limits in its TrafficPolicy."
	case "deadline_exceeded":
		return "the caller's own time was over before the request could be sent: give it more, or find what is slow before this proxy."
	case "http_response_timeout":
		return fmt.Sprintf("the program was too slow for the time that the request has: look at what it did at %s, or raise timeouts in the TrafficPolicy or the route.", at)
	case "connection_terminated", "http_response_incomplete":
		return fmt.Sprintf("the program closed the connection in the middle: did it crash or restart at %s?", at)
	case "http_response_header_section_size":
		return "the head of the program's answer is too large: does it set the same cookie again and again?"
	case "http_protocol_error", "http_response_transfer_coding":
		return "the program's answer isn't valid HTTP: does the port speak another protocol? Say so with appProtocol."
	case "proxy_internal_response":
		return fmt.Sprintf("that was on purpose: remove %s, or wait until it ends.", orElse(plain(s.Policy), "the fault policy"))
	case "http_request_denied":
		if s.Status == 429 {
			return fmt.Sprintf("the rate limit %s is reached: ask less often, or raise it.", plain(s.Policy))
		}
		if s.Status == 403 {
			return "no access rule allows that: the serving proxy's story says which one comes nearest. If it should be allowed, change " + orElse(plain(s.Policy), "the access policy") + "."
		}
		return "this listener doesn't do that: the text says what."
	case "client_gone":
		return "the client gave up: its own timeout is shorter than what the service takes."
	case "proxy_loop_detected":
		return "the request comes back to where it was sent from: does a route lead to a service that calls the same name again?"
	}
	return "`tulle check` says what is wrong with the mesh; the proxy's log has more."
}

func look(service string) string {
	if service == "" {
		return "`tulle check` says what is wrong."
	}
	return "`tulle diagnostics endpoints " + service + "` shows what is there."
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
