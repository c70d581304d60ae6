package v1alpha1

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"

	"tulle.dev/tulle/internal/policy"
)

// TestReference: docs/reference/kinds.md says what api/crds does; -update writes it.
func TestReference(t *testing.T) {
	const page = "../../docs/reference/kinds.md"
	files, err := filepath.Glob("../crds/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	r := reference{}
	r.line("# Tulle's own kinds\n")
	r.line("Made from `api/crds` by `make crds`. [docs/traffic.md](../traffic.md) and [docs/configuration.md](../configuration.md) tell how to use them; the other kinds are [Kubernetes'](https://kubernetes.io/docs/reference/kubernetes-api/) and the [Gateway API's](https://gateway-api.sigs.k8s.io/reference/spec/). All are of `apiVersion: %s`. Fields without \"needed\" may be left out.", APIVersion)
	for _, f := range files { // sorted
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(data, &crd); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		r.kind(&crd)
	}
	for _, part := range slices.Sorted(maps.Keys(r.shared)) {
		r.line("\n## %s\n\nA part of several kinds.\n", part)
		r.table(r.shared[part])
	}
	if *update {
		if err := os.WriteFile(page, []byte(r.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(have), r.String()); d != "" {
		t.Errorf("docs/reference/kinds.md is old (-file +schemas): run make crds\n%s", d)
	}
}

// TestDefaults: the comments, which are the reference, say what internal/policy
// does where nothing is said.
func TestDefaults(t *testing.T) {
	page, err := os.ReadFile("../../docs/reference/kinds.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## TrafficPolicy\n")
	ejection, retry, overload, health := policy.DefaultEjection, policy.DefaultRetry, policy.DefaultOverload, policy.DefaultHealthCheck
	for field, value := range map[string]any{
		"panicThreshold":               policy.DefaultUpstream.Panic,
		"session.name":                 fmt.Sprintf("%q", policy.DefaultSessionName),
		"ejection.consecutiveFailures": ejection.Consecutive,
		"ejection.successRate":         ejection.SuccessRate,
		"ejection.minRequests":         ejection.MinRequests,
		"ejection.window":              ejection.Window,
		"ejection.time":                ejection.Base,
		"ejection.maxTime":             ejection.MaxBackoff,
		"ejection.maxPercent":          ejection.Max,
		"retry.attempts":               retry.Attempts,
		"retry.backoff":                retry.Backoff,
		"retry.maxBackoff":             retry.MaxBackoff,
		"retry.maxRetryAfter":          retry.MaxRetryAfter,
		"retry.budget.percent":         retry.Budget.Percent,
		"retry.budget.minPerSecond":    retry.Budget.Min,
		"retry.bufferBytes":            retry.Buffer,
		"overload.minConcurrency":      overload.Min,
		"overload.maxConcurrency":      overload.Max,
		"overload.latencyTolerance":    overload.Tolerance,
		"overload.queue":               overload.Queue,
		"healthCheck.path":             fmt.Sprintf("%q", health.Path),
		"healthCheck.interval":         health.Interval,
		"healthCheck.timeout":          health.Timeout,
		"healthCheck.failureThreshold": health.Unhealthy,
		"healthCheck.successThreshold": health.Healthy,
	} {
		text := strings.TrimSuffix(fmt.Sprint(value), "m0s") // a duration
		if d, ok := value.(time.Duration); ok && text != d.String() {
			text += "m"
		}
		line := regexp.MustCompile("(?m)^\\| `" + regexp.QuoteMeta(field) + "` .*$").FindString(section)
		if !regexp.MustCompile(`Default ` + regexp.QuoteMeta(text) + `[.:]`).MatchString(line) {
			t.Errorf("the default is %s, the reference says: %s", text, line)
		}
	}
}

type reference struct {
	strings.Builder
	// shared are parts that several kinds have, by the name of their section.
	shared map[string]apiextensionsv1.JSONSchemaProps
}

func (r *reference) line(format string, args ...any) { fmt.Fprintf(r, format+"\n", args...) }

func (r *reference) kind(crd *apiextensionsv1.CustomResourceDefinition) {
	schema := crd.Spec.Versions[0].Schema.OpenAPIV3Schema
	r.line("\n## %s\n\n%s\n", crd.Spec.Names.Kind, paragraphs(schema.Description))
	names := append([]string{crd.Spec.Names.Plural}, crd.Spec.Names.ShortNames...)
	scope := "in a namespace"
	if crd.Spec.Scope == apiextensionsv1.ClusterScoped {
		scope = "in no namespace"
	}
	r.line("`tulle get %s`; %s.", strings.Join(names, "`, `"), scope)
	for _, part := range []string{"spec", "status"} {
		p, ok := schema.Properties[part]
		if !ok {
			continue
		}
		if part == "status" && p.Properties["ancestors"].Type != "" {
			r.line("\nStatus: for each target a condition Accepted, as the Gateway API's policies have it (`status.ancestors`).")
			continue
		}
		r.line("\n`%s`: %s\n", part, sentence(p.Description))
		r.table(p)
	}
}

// table has a line for each field, then the rules.
func (r *reference) table(s apiextensionsv1.JSONSchemaProps) {
	r.line("| field | value | |\n|---|---|---|")
	var rules []string
	r.fields("", s, &rules)
	if len(rules) > 0 {
		r.line("\n%s", strings.Join(rules, "\n"))
	}
}

var sections = map[string]string{"targetRefs": "TargetRef", "match": "Match"}

func (r *reference) fields(at string, s apiextensionsv1.JSONSchemaProps, rules *[]string) {
	for _, rule := range s.XValidations {
		if strings.HasPrefix(rule.Message, "want ") && at != "" && s.Type != "object" {
			continue // a range, which the field's own text has
		}
		place := strings.TrimPrefix(at+rule.FieldPath, ".")
		if place == "" {
			*rules = append(*rules, "- "+rule.Message)
			continue
		}
		*rules = append(*rules, fmt.Sprintf("- `%s`: %s", place, rule.Message))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		p := s.Properties[name]
		path := strings.TrimPrefix(at+"."+name, ".")
		item, suffix := p, ""
		for item.Type == "array" && item.Items.Schema != nil {
			item, suffix = *item.Items.Schema, suffix+"[]"
		}
		if section := sections[name]; section != "" && item.Type == "object" {
			if r.shared == nil {
				r.shared = map[string]apiextensionsv1.JSONSchemaProps{}
			}
			r.shared[section] = item
			r.line("| `%s` | %s[%s](#%s) | %s |", path, needed(s, name), section, strings.ToLower(section), sentence(p.Description))
			continue
		}
		r.line("| `%s` | %s%s | %s |", path, needed(s, name), value(p), sentence(p.Description))
		if name != "conditions" { // Kubernetes' own
			r.fields(path+suffix, item, rules)
		}
	}
}

func needed(s apiextensionsv1.JSONSchemaProps, name string) string {
	if slices.Contains(s.Required, name) {
		return "needed; "
	}
	return ""
}

// value says what may be written.
func value(s apiextensionsv1.JSONSchemaProps) string {
	text := s.Type
	switch {
	case len(s.Enum) > 0:
		var all []string
		for _, e := range s.Enum {
			all = append(all, "`"+strings.Trim(string(e.Raw), `"`)+"`")
		}
		text = strings.Join(all, ", ")
	case s.Type == "array":
		text = "list"
		if s.Items.Schema.Type != "object" {
			text += " of " + value(*s.Items.Schema)
		}
	case s.Type == "object" && s.AdditionalProperties != nil:
		text = "map of strings"
	case s.Type == "object":
		text = "map"
	case s.Type == "boolean":
		text = "`true`, `false`"
	case s.Type == "integer":
		text = "number"
		if s.Minimum != nil && s.Maximum != nil {
			text = fmt.Sprintf("%.0f to %.0f", *s.Minimum, *s.Maximum)
		} else if s.Minimum != nil {
			text = fmt.Sprintf("%.0f or more", *s.Minimum)
		}
	case s.Pattern == `^([0-9]{1,5}(h|m|s|ms)){1,4}$`:
		text = "duration"
	case s.Format == "date-time":
		text = "time"
	}
	return text
}

// sentence puts a comment's first paragraph on one line of a table: the Gateway
// API's go on for implementers.
func sentence(s string) string {
	s, _, _ = strings.Cut(s, "\n\n")
	s, _, _ = strings.Cut(s, "\nSupport:")
	return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "|", `\|`)
}

func paragraphs(s string) string {
	parts := strings.Split(s, "\n\n")
	for i := range parts {
		parts[i] = strings.Join(strings.Fields(parts[i]), " ")
	}
	return strings.Join(parts, "\n\n")
}
