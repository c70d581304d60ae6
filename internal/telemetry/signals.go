package telemetry

import "time"

// Stat is the golden signals of every service over one window.
type Stat struct {
	Window   string    `json:"window"` // such as "1m"
	Services []Service `json:"services"`
}

// Service is the golden signals of one service, all ports together.
//
// They are what the service's own proxies counted inbound, plus the calls that
// failed on the way there as its callers' proxies counted them. A service
// without proxies is seen through its callers alone.
type Service struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	Meshed    Meshed `json:"meshed"`
	Signals
}

// Meshed counts a service's endpoints: Ready ones may be picked now.
type Meshed struct {
	Ready int `json:"ready"`
	Total int `json:"total"`
}

// Signals are the numbers of one service or one edge.
type Signals struct {
	RPS *float64 `json:"rps"`
	// SuccessRate is the share of requests, 0 to 1, not answered with 5xx.
	SuccessRate *float64 `json:"success_rate"`
	Latency     Latency  `json:"latency_ms"`
	// MutualTLS is the share of requests, or of connections where the traffic is
	// opaque TCP, that arrived over mutual TLS.
	MutualTLS *float64 `json:"mutual_tls"`
	// TCPConnections is how many opaque TCP connections are open now.
	TCPConnections *float64 `json:"tcp_connections"`
	ReceivedBytes  *float64 `json:"received_bytes_per_second"`
	SentBytes      *float64 `json:"sent_bytes_per_second"`
}

// Latency is percentiles of the time from a request's first byte to its
// answer's last, in milliseconds.
type Latency struct {
	P50 *float64 `json:"p50"`
	P95 *float64 `json:"p95"`
	P99 *float64 `json:"p99"`
}

// Edges is who called whom over one window.
type Edges struct {
	Window string `json:"window"`
	Edges  []Edge `json:"edges"`
}

// Edge is the calls of one proxy's workload to one service. From is empty for
// callers outside the mesh, seen only by the service's own proxies; To is empty
// for all that a workload calls outside the mesh.
type Edge struct {
	From     Peer   `json:"from"`
	To       Peer   `json:"to"`
	Protocol string `json:"protocol"` // "http" or "tcp"
	Signals
}

// Peer names one end of an edge: a proxy (From) or a service (To).
type Peer struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

// String returns "name.namespace".
func (p Peer) String() string { return p.Name + "." + p.Namespace }

// Chart names a chart.
type Chart struct {
	// Subject is "service", "proxy" or "services": all of them at once.
	Subject string
	// Of is the service or proxy; nothing with "services".
	Of Peer
	// Name is "requests", "success_rate", "latency", "bytes" or "connections"
	// of a service, "requests" of services, "requests", "latency",
	// "connections", "memory" or "cpu" of a proxy. Rates are per second,
	// latency is in milliseconds, cpu in cores, memory in bytes.
	Name string
	// Span is how far back from now (15 minutes when zero).
	Span time.Duration
}

// Series is named lines over common points in time, for charts.
type Series struct {
	// Times are Unix seconds, evenly spaced, oldest first.
	Times []float64 `json:"times"`
	Lines []Line    `json:"lines"`
}

// Line is one line of a chart: a value, or null, for each of the times.
type Line struct {
	Name   string     `json:"name"`
	Labels Labels     `json:"labels,omitempty"`
	Values []*float64 `json:"values"`
}

// Labels tell lines of one name apart.
type Labels map[string]string

// InvalidError says that a question makes no sense: what is wrong with it and
// what would be right.
type InvalidError struct{ Reason string }

// Error returns the reason.
func (e *InvalidError) Error() string { return e.Reason }
