package access

// Action is what a rule or a default does.
type Action uint8

// Deny is the zero Action, so that what nobody filled in is safe.
const (
	Deny Action = iota
	Allow
)

// String returns "deny" or "allow".
func (a Action) String() string {
	if a == Allow {
		return "allow"
	}
	return "deny"
}

// Spec is the access rules of one service port, as data.
type Spec struct {
	// Default holds for what no rule decides.
	Default Action
	// Foreign holds beside it for callers of another trust domain: they may only do
	// what both allow.
	Foreign Action
	Rules   []Rule
	// Explain lets a refusal's body name the rule; otherwise only an id.
	Explain bool
}

// Rule is met when one of From, one of To and all of When are; an empty list is
// met by everything.
type Rule struct {
	// Name says where it comes from, "accesspolicy/NAMESPACE/NAME#INDEX".
	Name   string
	Action Action
	// Audit is a dry run: counted and shown, not done.
	Audit bool
	// AllowUnenforceable says that where To or When can't be looked at, because
	// the connection is opaque, a Deny is not met. By default it is. (An Allow
	// never is.)
	AllowUnenforceable bool
	From               []Source
	To                 []Operation
	When               []Claim
}

// Source is a set of callers. Each list that isn't empty must have an entry that
// fits, and no entry of a Not list may.
type Source struct {
	// Identities are SPIFFE ids, exact or with a final "*" for any rest.
	Identities, NotIdentities []string
	// ServiceAccounts are "NAMESPACE/NAME" of the mesh's own trust domain.
	ServiceAccounts, NotServiceAccounts []string
	// Namespaces are of the mesh's own trust domain.
	Namespaces, NotNamespaces []string
	TrustDomains              []string
	// Networks (CIDR) hold the caller's address.
	Networks, NotNetworks []string
}

// Operation is a set of requests; lists combine as those of Source. Names of
// header fields and hosts are compared in any case, all else exactly.
type Operation struct {
	Methods, NotMethods []string
	Paths, NotPaths     []Path
	// Hosts are the authority without its port, "*.example" for any below.
	Hosts []string
	// ServerNames are what a TLS client asked for, as Hosts.
	ServerNames []string
	// Headers must all fit.
	Headers []Header
}

// looks says whether anything of a request must be known.
func (o *Operation) looks() bool {
	return len(o.Methods)+len(o.NotMethods)+len(o.Paths)+len(o.NotPaths)+len(o.Hosts)+len(o.Headers) > 0
}

// PathKind says how Path.Value is compared.
type PathKind uint8

// PathPrefix compares whole segments; PathRegex is RE2 over the whole path;
// PathMethod is met by a path of two segments of which the second is the value
// (a gRPC method of any service).
const (
	PathExact PathKind = iota
	PathPrefix
	PathRegex
	PathMethod
)

// Path is a set of paths, without the query. A gRPC service is a prefix, a
// service and method an exact path.
type Path struct {
	Kind  PathKind
	Value string
}

// Header is met by a field of that name with one of the values ("*" at the end
// of one for any rest); without values by any field of that name. Not turns it
// round.
type Header struct {
	Name   string
	Values []string
	Not    bool
}

// Claim is met when the caller's token (JWT) has a claim of that name, nested
// with dots, whose value, or one of whose values, is one of Values; without
// Values when it is there at all.
type Claim struct {
	Name   string
	Values []string
}
