package record

import "time"

// Told is a line as its reader has it.
type Told struct {
	Time          time.Time `json:"time,omitzero"`
	Direction     string    `json:"direction,omitempty"`
	Listener      string    `json:"listener,omitempty"`
	Source        string    `json:"source,omitempty"`
	SourceAddress string    `json:"source_address,omitempty"`
	Service       string    `json:"service,omitempty"`
	Rule          string    `json:"rule,omitempty"`
	Backend       string    `json:"backend,omitempty"`
	Endpoint      string    `json:"endpoint,omitempty"`
	Workload      string    `json:"workload,omitempty"`
	Protocol      string    `json:"protocol,omitempty"`
	Method        string    `json:"method,omitempty"`
	Authority     string    `json:"authority,omitempty"`
	Path          string    `json:"path,omitempty"`
	Status        int       `json:"status,omitempty"`
	GRPCStatus    *int      `json:"grpc_status,omitempty"`
	Reason        string    `json:"reason,omitempty"`
	Text          string    `json:"text,omitempty"`
	Policy        string    `json:"policy,omitempty"`
	Decision      string    `json:"decision,omitempty"`
	AccessRule    string    `json:"access_rule,omitempty"`
	Duration      float64   `json:"duration_ms"`
	Routed        float64   `json:"routed_ms,omitempty"`
	Sent          float64   `json:"sent_ms,omitempty"`
	First         float64   `json:"first_byte_ms,omitempty"`
	Received      uint64    `json:"received_bytes"`
	Answered      uint64    `json:"sent_bytes"`
	Tries         int       `json:"tries,omitempty"`
	RequestID     string    `json:"request_id,omitempty"`
	ID            string    `json:"tulle_id,omitempty"`
	Peer          string    `json:"peer_tulle_id,omitempty"`
}
