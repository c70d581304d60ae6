package access

import (
	"strings"
)

// Describe tells a rule in a line, for people: "deny from web.shop, *.ops: POST /charge".
func Describe(r *Rule) string {
	var b strings.Builder
	b.WriteString(r.Action.String())
	if r.Audit {
		b.WriteString(" (audit)")
	}
	for i := range r.From {
		b.WriteString(map[bool]string{true: " from ", false: " or "}[i == 0])
		b.WriteString(r.From[i].describe())
	}
	for i := range r.To {
		b.WriteString(map[bool]string{true: ": ", false: " or "}[i == 0])
		b.WriteString(r.To[i].describe())
	}
	for i, c := range r.When {
		b.WriteString(map[bool]string{true: " when ", false: " and "}[i == 0])
		b.WriteString(c.Name)
		if len(c.Values) > 0 {
			b.WriteString("=" + strings.Join(c.Values, "|"))
		}
	}
	return b.String()
}

// describeList adds a part that is written.
func describeList(parts *[]string, before string, list []string) {
	if len(list) > 0 {
		*parts = append(*parts, before+strings.Join(list, ", "))
	}
}

func (s *Source) describe() string {
	var parts []string
	callers := func(before string, accounts, namespaces []string) {
		var names []string
		for _, a := range accounts {
			namespace, name, _ := strings.Cut(a, "/")
			names = append(names, name+"."+namespace)
		}
		for _, n := range namespaces {
			names = append(names, "*."+n)
		}
		describeList(&parts, before, names)
	}
	callers("", s.ServiceAccounts, s.Namespaces)
	describeList(&parts, "", s.Identities)
	describeList(&parts, "trust domain ", s.TrustDomains)
	describeList(&parts, "network ", s.Networks)
	callers("not ", s.NotServiceAccounts, s.NotNamespaces)
	describeList(&parts, "not ", s.NotIdentities)
	describeList(&parts, "not network ", s.NotNetworks)
	if parts == nil {
		return "anyone"
	}
	return strings.Join(parts, " ")
}

func (o *Operation) describe() string {
	var parts []string
	describeList(&parts, "", o.Methods)
	describeList(&parts, "not ", o.NotMethods)
	describeList(&parts, "", pathTexts(o.Paths))
	describeList(&parts, "not ", pathTexts(o.NotPaths))
	describeList(&parts, "host ", o.Hosts)
	describeList(&parts, "server name ", o.ServerNames)
	for _, h := range o.Headers {
		text := "header " + h.Name
		if h.Not {
			text = "not " + text
		}
		if len(h.Values) > 0 {
			text += "=" + strings.Join(h.Values, "|")
		}
		parts = append(parts, text)
	}
	if parts == nil {
		return "anything"
	}
	return strings.Join(parts, " ")
}

func pathTexts(list []Path) []string {
	var out []string
	for _, p := range list {
		switch p.Kind {
		case PathPrefix:
			out = append(out, strings.TrimSuffix(p.Value, "/")+"/*")
		case PathRegex:
			out = append(out, "~"+p.Value)
		case PathMethod:
			out = append(out, "*/"+p.Value)
		default:
			out = append(out, p.Value)
		}
	}
	return out
}
