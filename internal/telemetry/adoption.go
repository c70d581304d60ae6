package telemetry

// Adoption is how far the traffic to each service port has come over one window:
// encrypted, from callers who prove who they are, by rules.
type Adoption struct {
	Window string         `json:"window"` // such as "1m"
	Ports  []AdoptionPort `json:"ports"`
}

// AdoptionPort is what the proxies of one service port counted inbound: requests,
// and opaque connections, each as one.
type AdoptionPort struct {
	// Service is the port's key, "cart.default:8080".
	Service  string  `json:"service"`
	Requests float64 `json:"requests"`
	// Mutual arrived over mutual TLS, Known from somebody with an identity.
	Mutual float64 `json:"mutual"`
	Known  float64 `json:"known"`
	// Allowed were let in by a rule, ByDefault because no rule decided, Denied not.
	// Audit were let in though what is in audit would deny them.
	Allowed   float64 `json:"allowed"`
	ByDefault float64 `json:"by_default"`
	Denied    float64 `json:"denied"`
	Audit     float64 `json:"audit"`
	// Failed are those answered 5xx, or not at all.
	Failed float64 `json:"failed"`
	// Refused are connections without TLS to a port that takes none, and those that
	// were open when it turned so.
	Refused float64 `json:"refused"`
	// Callers are who called, the busiest first.
	Callers []AdoptionCaller `json:"callers"`
}

// AdoptionCaller is one caller of a port, all without an identity together.
type AdoptionCaller struct {
	// Peer is ACCOUNT.NAMESPACE, empty for who proves nothing.
	Peer string `json:"peer"`
	// TLS is "mutual", "tls" or "none".
	TLS      string  `json:"tls"`
	Requests float64 `json:"requests"`
}
