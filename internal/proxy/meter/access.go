package meter

// Access is what access rules came to.
type Access uint8

// Allowed and Denied are decisions; Audit is a request that was let pass and that
// a rule in audit would have refused (it counts as Allowed too); Ended is one
// that was under way when a new rule forbade it.
const (
	Allowed Access = iota
	Denied
	Audit
	Ended
)

// String returns the label's value.
func (a Access) String() string {
	switch a {
	case Allowed:
		return "allowed"
	case Denied:
		return "denied"
	case Audit:
		return "audit"
	case Ended:
		return "ended"
	}
	return "unknown"
}
