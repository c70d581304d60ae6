package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/explain"
	"tulle.dev/tulle/internal/telemetry"
)

const (
	// adoptPoll is how often it is looked whether anybody is cut off, adoptSlack how
	// long figures may be late.
	adoptPoll  = 2 * time.Second
	adoptSlack = 5 * time.Second
	// A success rate has fallen when it is lower by more than adoptFall, and at least
	// adoptFailures requests failed.
	adoptFall     = 0.01
	adoptFailures = 3
	// backTimeout bounds rolling back.
	backTimeout = 15 * time.Second
)

func (a *app) adoptStrict() *cobra.Command {
	var watch time.Duration
	c := &cobra.Command{
		Use:   "strict SERVICE",
		Short: "Have a service take mutual TLS alone, and go back if that breaks somebody",
		Long: `Writes an AuthenticationPolicy, adopt-SERVICE, that has the service's proxies take mutual
TLS alone, and watches. When a caller without TLS is refused, or the success rate falls,
it puts things back as they were, says why, and ends with exit code 1. So it does when it
is interrupted.

Exit codes: 0 strict, and nobody was cut off; 1 rolled back; 2 couldn't ask.`,
		Example: `  tulle adopt status cart
  tulle adopt strict cart --watch 5m`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			if watch < adoptPoll {
				return couldNot("", "--watch %s: want at least %s", watch, adoptPoll)
			}
			conn, err := a.connect()
			if err != nil {
				return err
			}
			return (&stricter{app: a, conn: conn, service: a.qualified(args[0]), watch: watch}).run(cmd.Context())
		},
	}
	c.Flags().DurationVar(&watch, "watch", time.Minute, "how long to watch before it is taken for good")
	a.namespaceFlag(c)
	return c
}

// stricter turns one service strict.
type stricter struct {
	*app
	conn    *client.Client
	service string // "cart.default"
	watch   time.Duration

	before  map[string]float64 // the success rate of each port
	refused map[string]float64 // connections without TLS that were refused just before
	earlier json.RawMessage    // the policy as it was, nil for none
	changes []string           // the ports that turn strict
}

func (s *stricter) policyName() string {
	name, _, _ := strings.Cut(s.service, ".")
	return "adopt-" + name
}

func (s *stricter) namespaceOf() string {
	_, namespace, _ := strings.Cut(s.service, ".")
	return namespace
}

func (s *stricter) run(ctx context.Context) error {
	modes, err := s.modes(ctx)
	if err != nil {
		return err
	}
	for _, at := range sortedNames(modes) {
		if modes[at] != "strict" {
			s.changes = append(s.changes, at)
		}
	}
	if len(s.changes) == 0 {
		fmt.Fprintf(s.Out, "%s takes mutual TLS alone already\n", s.service)
		return nil
	}
	figures, err := s.figures(ctx, s.watch)
	if err != nil {
		return err
	}
	s.before = map[string]float64{}
	for i := range figures.Ports {
		p := &figures.Ports[i]
		if p.Requests > 0 {
			s.before[p.Service] = 1 - p.Failed/p.Requests
		}
		for _, c := range p.Callers {
			if c.TLS == "none" && slices.Contains(s.changes, p.Service) {
				fmt.Fprintf(s.Err, "%s %s had %.0f requests over plaintext in the last %s: their callers will be cut off\n", s.paint.warn("warning:"), p.Service, c.Requests, s.watch)
			}
		}
	}
	if figures, err = s.figures(ctx, adoptSlack); err != nil {
		return err
	}
	s.refused = map[string]float64{}
	for i := range figures.Ports {
		s.refused[figures.Ports[i].Service] = figures.Ports[i].Refused
	}
	if err := s.flip(ctx); err != nil {
		return err
	}
	fmt.Fprintf(s.Err, "%s is strict now (AuthenticationPolicy %s); watching for %s\n", s.service, s.policyName(), s.watch)
	why := s.watched(ctx)
	if why == "" {
		fmt.Fprintf(s.Out, "%s %s takes mutual TLS alone, and nobody was cut off\n", s.paint.good("strict:"), s.service)
		return nil
	}
	// Not ctx: it may be what ended.
	back, cancel := context.WithTimeout(context.WithoutCancel(ctx), backTimeout)
	defer cancel()
	if err := s.back(back); err != nil {
		return wrong("tulle delete authenticationpolicy "+s.policyName()+" -n "+s.namespaceOf(), "%s: %s; and that couldn't be undone: %w", s.service, why, err)
	}
	fmt.Fprintf(s.Out, "%s %s: %s\n", s.paint.bad("rolled back:"), s.service, why)
	return exit(ExitWrong)
}

// modes are what the service's ports take now.
func (s *stricter) modes(ctx context.Context) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	answers, err := s.conn.Access(ctx, explain.AccessQuestion{To: s.service + ":*"})
	if err != nil {
		return nil, advise(err)
	}
	out := map[string]string{}
	for i := range answers {
		if strings.HasPrefix(answers[i].To, s.service+":") {
			out[answers[i].To] = answers[i].MutualTLS
		}
	}
	if len(out) == 0 {
		return nil, wrong("`tulle get services -A` lists them", "there is no Service %s with a port", s.service)
	}
	return out, nil
}

func (s *stricter) figures(ctx context.Context, window time.Duration) (*telemetry.Adoption, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	out, err := s.conn.Adoption(ctx, max(window.Round(time.Second), adoptSlack))
	return out, advise(err)
}

// flip writes the policy. What else it said before stays.
func (s *stricter) flip(ctx context.Context) error {
	kind := object.AuthenticationPolicy
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	old, err := s.conn.Get(ctx, resource(kind), s.namespaceOf(), s.policyName())
	switch {
	case err == nil:
		s.earlier = old
	case !client.IsNotFound(err):
		return advise(err)
	}
	name, _, _ := strings.Cut(s.service, ".")
	p, err := s.was()
	if err != nil {
		return err
	}
	p.Namespace, p.Name = s.namespaceOf(), s.policyName()
	p.Spec.TargetRefs = []v1alpha1.TargetRef{{Kind: "Service", Name: gatewayv1.ObjectName(name)}}
	p.Spec.MutualTLS = v1alpha1.MutualTLSStrict
	data, err := object.Encode(p)
	if err != nil {
		return err
	}
	if _, err := s.conn.Apply(ctx, resource(kind), p.Namespace, p.Name, data, false); err != nil {
		return advise(err)
	}
	return nil
}

// was is the policy as it was, or an empty one.
func (s *stricter) was() (*v1alpha1.AuthenticationPolicy, error) {
	kind := object.AuthenticationPolicy
	if s.earlier == nil {
		return kind.New().(*v1alpha1.AuthenticationPolicy), nil
	}
	o, err := object.Unmarshal(kind, s.earlier)
	if err != nil {
		return nil, couldNot("", "AuthenticationPolicy %s: %w", s.policyName(), err)
	}
	p := o.(*v1alpha1.AuthenticationPolicy)
	p.ResourceVersion, p.Status = "", gatewayv1.PolicyStatus{}
	identify(p, kind)
	return p, nil
}

// back puts the policy as it was.
func (s *stricter) back(ctx context.Context) error {
	kind := object.AuthenticationPolicy
	if s.earlier == nil {
		err := s.conn.Delete(ctx, resource(kind), s.namespaceOf(), s.policyName(), false)
		if client.IsNotFound(err) {
			return nil
		}
		return err
	}
	p, err := s.was()
	if err != nil {
		return err
	}
	data, err := object.Encode(p)
	if err != nil {
		return err
	}
	_, err = s.conn.Apply(ctx, resource(kind), s.namespaceOf(), s.policyName(), data, false)
	return err
}

// watched returns why it must be undone, or "" when the time is over.
func (s *stricter) watched(ctx context.Context) string {
	started := time.Now()
	modes, err := s.modes(ctx)
	if err != nil {
		return "what its ports take can't be asked: " + err.Error()
	}
	for _, at := range s.changes {
		if modes[at] != "strict" {
			return fmt.Sprintf("another AuthenticationPolicy says that %s is %s, and is nearer or older: change that one", at, modes[at])
		}
	}
	for {
		select {
		case <-ctx.Done():
			return "interrupted"
		case <-time.After(adoptPoll):
		}
		// What is scraped after the end is of before it.
		elapsed := time.Since(started)
		figures, err := s.figures(ctx, elapsed)
		if err == nil {
			if why := s.broken(figures); why != "" {
				return why
			}
		} else if elapsed >= s.watch {
			return "what became of its requests can't be asked: " + err.Error()
		}
		if elapsed >= s.watch+adoptSlack {
			return ""
		}
	}
}

// broken says whom the change has cut off, or "".
func (s *stricter) broken(figures *telemetry.Adoption) string {
	for i := range figures.Ports {
		p := &figures.Ports[i]
		if !slices.Contains(s.changes, p.Service) {
			continue
		}
		if p.Refused > s.refused[p.Service] {
			ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
			defer cancel()
			text := fmt.Sprintf("%.0f connections without TLS to %s were refused", p.Refused, p.Service)
			if from := s.plaintextCallers(ctx, s.conn, s.service); len(from) > 0 {
				text += ", callers without TLS are at " + limited(from)
			}
			return text
		}
		before, known := s.before[p.Service]
		if !known {
			before = 1
		}
		if p.Requests > 0 && p.Failed >= adoptFailures && 1-p.Failed/p.Requests < before-adoptFall {
			return fmt.Sprintf("the success rate of %s fell from %s to %s", p.Service, percent(before), percent(1-p.Failed/p.Requests))
		}
	}
	return ""
}
