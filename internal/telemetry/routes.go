package telemetry

// Routes is what each rule of a route did over one window, by backend.
type Routes struct {
	Window string  `json:"window"` // such as "1m"
	Routes []Route `json:"routes"`
}

// Route is the requests that one rule sent to one backend, as the proxies counted
// them that hold to the rule: the callers' and gateways'.
type Route struct {
	// Direction is "outbound" or "edge".
	Direction string `json:"direction"`
	// Service is the destination that was asked for, "cart.default:8080"; empty at
	// gateways.
	Service string `json:"service,omitempty"`
	// Route is the rule, "httproute/default/cart#0"; empty for requests that no rule
	// is for.
	Route string `json:"route,omitempty"`
	// Backend is the destination; empty where the rule answers itself.
	Backend string   `json:"backend,omitempty"`
	RPS     *float64 `json:"rps"`
	// Share is the part of the rule's requests, 0 to 1, that the backend got.
	Share *float64 `json:"share"`
	// SuccessRate is the share of requests, 0 to 1, not answered with 5xx.
	SuccessRate *float64 `json:"success_rate"`
	Latency     Latency  `json:"latency_ms"`
}
