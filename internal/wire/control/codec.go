package control

import (
	"math"
	"net/netip"

	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/pb"
)

// Bounds of what the decoders accept.
const (
	// MaxMessage bounds an encoded message, in bytes: a gRPC frame's payload.
	MaxMessage = 16 << 20
	// MaxSubscriptions bounds the resources one proxy is kept up to date
	// about, its own ("proxy", "bundle") included.
	MaxSubscriptions = 1 << 16
	// MaxShares bounds the limits of a Demand or of Shares.
	MaxShares = 1024

	maxName          = 1024
	maxText          = 16 << 10 // a detail, an error, a reason
	maxKey           = 1200     // a resource's key: a part and a name
	maxCSR           = 64 << 10
	maxCertificate   = 64 << 10
	maxChain         = 8
	maxToken         = 1024
	maxAccountToken  = 16 << 10
	maxSignature     = 4096
	maxRegistrations = 1024
	maxHeld          = 1 << 18
	maxGreets        = 1024
	maxKeys          = 1 << 18
	maxResources     = 1 << 18
)

// decode reads a message of its own, within MaxMessage.
func decode[P any](m *pb.Message[P], b []byte) (P, error) {
	if len(b) > MaxMessage {
		var none P
		return none, pb.Errorf("a message of %d bytes is too big, want at most %d", len(b), MaxMessage)
	}
	return m.Decode(b)
}

// oneof says that a message of which one field may be set has two. One that has
// none is of a newer program.
func oneof(set ...bool) error {
	n := 0
	for _, is := range set {
		if is {
			n++
		}
	}
	if n > 1 {
		return pb.Errorf("%d messages are set, want one", n)
	}
	return nil
}

var certifyRequestMessage = pb.Describe(
	pb.Bytes(1, "csr", maxCSR, func(m *CertifyRequest) *[]byte { return &m.CSR }),
	pb.String(2, "join_token", maxToken, func(m *CertifyRequest) *string { return &m.JoinToken }),
	pb.Blobs(3, "expired_chain", maxChain, maxCertificate, func(m *CertifyRequest) *[][]byte { return &m.ExpiredChain }),
	pb.Bytes(4, "recovery_signature", maxSignature, func(m *CertifyRequest) *[]byte { return &m.RecoverySignature }),
	pb.String(5, "kubernetes_token", maxAccountToken, func(m *CertifyRequest) *string { return &m.KubernetesToken }),
)

// EncodeCertifyRequest returns a CertifyRequest message.
func EncodeCertifyRequest(m *CertifyRequest) []byte { return certifyRequestMessage.Append(nil, m) }

// DecodeCertifyRequest reads a CertifyRequest message.
func DecodeCertifyRequest(b []byte) (*CertifyRequest, error) { return decode(certifyRequestMessage, b) }

var certifyResponseMessage = pb.Describe(
	pb.Blobs(1, "chain", maxChain, maxCertificate, func(m *CertifyResponse) *[][]byte { return &m.Chain }),
	pb.Struct(2, "bundle", view.BundleMessage, func(m *CertifyResponse) *view.Bundle { return &m.Bundle }),
	pb.String(3, "identity", maxName, func(m *CertifyResponse) *string { return &m.Identity }),
)

// EncodeCertifyResponse returns a CertifyResponse message.
func EncodeCertifyResponse(m *CertifyResponse) []byte { return certifyResponseMessage.Append(nil, m) }

// DecodeCertifyResponse reads a CertifyResponse message.
func DecodeCertifyResponse(b []byte) (*CertifyResponse, error) {
	return decode(certifyResponseMessage, b)
}

var proxyMessage = pb.Describe(
	pb.Pointer(1, "hello", helloMessage, func(m *ProxyMessage) **Hello { return &m.Hello }),
	pb.Pointer(2, "subscribe", pb.Describe(
		pb.Strings(1, "add", maxKeys, maxKey, func(m *Subscribe) *[]string { return &m.Add }),
		pb.Strings(2, "remove", maxKeys, maxKey, func(m *Subscribe) *[]string { return &m.Remove }),
	), func(m *ProxyMessage) **Subscribe { return &m.Subscribe }),
	pb.Pointer(3, "ack", pb.Describe(
		pb.Number(1, "nonce", math.MaxUint64, func(m *Ack) *uint64 { return &m.Nonce }),
		pb.String(2, "error", maxText, func(m *Ack) *string { return &m.Error }),
	), func(m *ProxyMessage) **Ack { return &m.Ack }),
	pb.Pointer(4, "status", pb.Describe(
		pb.Bool(1, "ready", func(m *Status) *bool { return &m.Ready }),
		pb.Bool(2, "draining", func(m *Status) *bool { return &m.Draining }),
		pb.String(3, "detail", maxText, func(m *Status) *string { return &m.Detail }),
	), func(m *ProxyMessage) **Status { return &m.Status }),
	pb.Pointer(5, "greets", pb.Describe(
		pb.Strings(1, "ports", maxGreets, maxKey, func(m *Greets) *[]string { return &m.Ports }),
	), func(m *ProxyMessage) **Greets { return &m.Greets }),
	pb.Pointer(6, "demand", pb.Describe(
		pb.Messages(1, "limits", MaxShares, pb.Describe(
			pb.String(1, "limit", maxKey, func(d *LimitDemand) *string { return &d.Limit }),
			pb.Number(2, "part", math.MaxUint64, func(d *LimitDemand) *uint64 { return &d.Part }),
			pb.Bool(3, "keyed", func(d *LimitDemand) *bool { return &d.Keyed }),
			pb.Number(4, "held", math.MaxUint64, func(d *LimitDemand) *uint64 { return &d.Held }),
		), func(m *Demand) *[]LimitDemand { return &m.Limits }),
	), func(m *ProxyMessage) **Demand { return &m.Demand }),
).Check(func(m *ProxyMessage) error {
	return oneof(m.Hello != nil, m.Subscribe != nil, m.Ack != nil, m.Status != nil, m.Greets != nil, m.Demand != nil)
})

var helloMessage = pb.Describe(
	pb.String(1, "name", maxName, func(m *Hello) *string { return &m.Name }),
	pb.String(2, "namespace", maxName, func(m *Hello) *string { return &m.Namespace }),
	pb.String(3, "version", maxName, func(m *Hello) *string { return &m.Version }),
	pb.Enum(4, "role", view.Gateway, func(m *Hello) *view.Role { return &m.Role }),
	pb.String(5, "uid", maxName, func(m *Hello) *string { return &m.UID }),
	pb.String(6, "admin", maxName, func(m *Hello) *string { return &m.Admin }),
	pb.String(7, "zone", maxName, func(m *Hello) *string { return &m.Zone }),
	pb.Messages(8, "registrations", maxRegistrations, pb.Describe(
		pb.String(1, "service", maxName, func(r *Registration) *string { return &r.Service }),
		pb.Port(2, "port", func(r *Registration) *uint16 { return &r.Port }),
		pb.AddrPort(3, "app", func(r *Registration) *netip.AddrPort { return &r.App }),
		pb.AddrPort(4, "mesh", func(r *Registration) *netip.AddrPort { return &r.Mesh }),
		pb.Enum(5, "protocol", view.HTTP2, func(r *Registration) *view.Protocol { return &r.Protocol }),
	), func(m *Hello) *[]Registration { return &m.Registrations }),
	pb.Messages(9, "held", maxHeld, pb.Describe(
		pb.String(1, "key", maxKey, func(h *Held) *string { return &h.Key }),
		pb.Number(2, "version", math.MaxUint64, func(h *Held) *uint64 { return &h.Version }),
	), func(m *Hello) *[]Held { return &m.Held }),
	pb.String(10, "mode", maxName, func(m *Hello) *string { return &m.Mode }),
	pb.Number(11, "pid", math.MaxUint64, func(m *Hello) *uint64 { return &m.PID }),
	pb.Bool(12, "shares", func(m *Hello) *bool { return &m.Shares }),
)

// EncodeProxyMessage returns a ProxyMessage message.
func EncodeProxyMessage(m *ProxyMessage) []byte { return proxyMessage.Append(nil, m) }

// DecodeProxyMessage reads a ProxyMessage message; at most one field is set.
func DecodeProxyMessage(b []byte) (*ProxyMessage, error) { return decode(proxyMessage, b) }

// fieldUpdate is ControlMessage.update, fieldResources Update.resources.
const fieldUpdate, fieldResources = 1, 3

var controlMessage = pb.Describe(
	pb.Pointer(fieldUpdate, "update", updateMessage, func(m *ControlMessage) **Update { return &m.Update }),
	pb.Custom(2, "drained", false,
		func(f pb.Field, m *ControlMessage) error {
			_, err := f.Message()
			m.Drained = true
			return err
		},
		func(b []byte, m *ControlMessage) []byte {
			if !m.Drained {
				return b
			}
			return pb.AppendMessage(b, 2, func(b []byte) []byte { return b })
		}),
	pb.Pointer(3, "refused", pb.Describe(
		pb.String(1, "reason", maxText, func(m *Refused) *string { return &m.Reason }),
	), func(m *ControlMessage) **Refused { return &m.Refused }),
	pb.Pointer(4, "shares", pb.Describe(
		pb.Messages(1, "limits", MaxShares, pb.Describe(
			pb.String(1, "limit", maxKey, func(s *Share) *string { return &s.Limit }),
			pb.Number(2, "part", math.MaxUint64, func(s *Share) *uint64 { return &s.Part }),
		), func(m *Shares) *[]Share { return &m.Limits }),
	), func(m *ControlMessage) **Shares { return &m.Shares }),
).Check(func(m *ControlMessage) error {
	return oneof(m.Update != nil, m.Drained, m.Refused != nil, m.Shares != nil)
})

var updateMessage = pb.Describe(
	pb.Number(1, "nonce", math.MaxUint64, func(m *Update) *uint64 { return &m.Nonce }),
	pb.Number(2, "version", math.MaxUint64, func(m *Update) *uint64 { return &m.Version }),
	pb.Messages(fieldResources, "resources", maxResources, resourceMessage, func(m *Update) *[]Resource { return &m.Resources }),
)

var resourceMessage = pb.Describe(
	pb.String(1, "key", maxKey, func(r *Resource) *string { return &r.Key }),
	pb.Number(2, "version", math.MaxUint64, func(r *Resource) *uint64 { return &r.Version }),
	pb.Bool(3, "absent", func(r *Resource) *bool { return &r.Absent }),
	pb.Pointer(4, "proxy", view.ProxyMessage, func(r *Resource) **view.Proxy { return &r.Proxy }),
	pb.Pointer(5, "bundle", view.BundleMessage, func(r *Resource) **view.Bundle { return &r.Bundle }),
	pb.Pointer(6, "destination", view.DestinationMessage, func(r *Resource) **view.Destination { return &r.Destination }),
	pb.Pointer(7, "endpoints", view.EndpointsMessage, func(r *Resource) **view.Endpoints { return &r.Endpoints }),
	pb.Pointer(8, "host", view.HostMessage, func(r *Resource) **view.Host { return &r.Host }),
).Check(func(r *Resource) error {
	values := 0
	for _, is := range []bool{r.Proxy != nil, r.Bundle != nil, r.Destination != nil, r.Endpoints != nil, r.Host != nil} {
		if is {
			values++
		}
	}
	switch {
	case r.Key == "":
		return pb.In("key", pb.Errorf("is missing"))
	case r.Absent && values != 0:
		return pb.Errorf("%q is absent and has a value", r.Key)
	case !r.Absent && values != 1:
		return pb.Errorf("%q has %d values, want one; is the control plane newer?", r.Key, values)
	}
	return nil
})

// EncodeControlMessage returns a ControlMessage message.
func EncodeControlMessage(m *ControlMessage) []byte { return controlMessage.Append(nil, m) }

// DecodeControlMessage reads a ControlMessage message; at most one field is set.
func DecodeControlMessage(b []byte) (*ControlMessage, error) { return decode(controlMessage, b) }

// AppendResource appends the fields of a Resource message to b. The control
// plane keeps the bytes: one resource goes to many proxies.
func AppendResource(b []byte, r *Resource) []byte { return resourceMessage.Append(b, r) }

// EncodeUpdate returns a ControlMessage with an Update whose resources are
// encoded already (AppendResource).
func EncodeUpdate(nonce, version uint64, resources [][]byte) []byte {
	return pb.AppendMessage(nil, fieldUpdate, func(b []byte) []byte {
		b = updateMessage.Append(b, &Update{Nonce: nonce, Version: version})
		for _, r := range resources {
			b = pb.AppendElement(b, fieldResources, r)
		}
		return b
	})
}
