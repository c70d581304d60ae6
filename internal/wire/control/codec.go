package control

import (
	"math"

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
func decode[T any](b []byte, fields func(*pb.Message, *T)) (*T, error) {
	if len(b) > MaxMessage {
		return nil, pb.Errorf("a message of %d bytes is too big, want at most %d", len(b), MaxMessage)
	}
	return pb.Decode(b, fields)
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

func certifyRequestMessage(m *pb.Message, v *CertifyRequest) {
	pb.Bytes(m, 1, "csr", maxCSR, &v.CSR)
	pb.String(m, 2, "join_token", maxToken, &v.JoinToken)
	pb.Blobs(m, 3, "expired_chain", maxChain, maxCertificate, &v.ExpiredChain)
	pb.Bytes(m, 4, "recovery_signature", maxSignature, &v.RecoverySignature)
	pb.String(m, 5, "kubernetes_token", maxAccountToken, &v.KubernetesToken)
}

// EncodeCertifyRequest returns a CertifyRequest message.
func EncodeCertifyRequest(m *CertifyRequest) []byte { return pb.Append(nil, m, certifyRequestMessage) }

// DecodeCertifyRequest reads a CertifyRequest message.
func DecodeCertifyRequest(b []byte) (*CertifyRequest, error) { return decode(b, certifyRequestMessage) }

func certifyResponseMessage(m *pb.Message, v *CertifyResponse) {
	pb.Blobs(m, 1, "chain", maxChain, maxCertificate, &v.Chain)
	pb.Struct(m, 2, "bundle", &v.Bundle, view.BundleMessage)
	pb.String(m, 3, "identity", maxName, &v.Identity)
}

// EncodeCertifyResponse returns a CertifyResponse message.
func EncodeCertifyResponse(m *CertifyResponse) []byte {
	return pb.Append(nil, m, certifyResponseMessage)
}

// DecodeCertifyResponse reads a CertifyResponse message.
func DecodeCertifyResponse(b []byte) (*CertifyResponse, error) {
	return decode(b, certifyResponseMessage)
}

func proxyMessage(m *pb.Message, v *ProxyMessage) {
	pb.Pointer(m, 1, "hello", &v.Hello, helloMessage)
	pb.Pointer(m, 2, "subscribe", &v.Subscribe, func(m *pb.Message, v *Subscribe) {
		pb.Strings(m, 1, "add", maxKeys, maxKey, &v.Add)
		pb.Strings(m, 2, "remove", maxKeys, maxKey, &v.Remove)
	})
	pb.Pointer(m, 3, "ack", &v.Ack, func(m *pb.Message, v *Ack) {
		pb.Number(m, 1, "nonce", math.MaxUint64, &v.Nonce)
		pb.String(m, 2, "error", maxText, &v.Error)
	})
	pb.Pointer(m, 4, "status", &v.Status, func(m *pb.Message, v *Status) {
		pb.Bool(m, 1, "ready", &v.Ready)
		pb.Bool(m, 2, "draining", &v.Draining)
		pb.String(m, 3, "detail", maxText, &v.Detail)
	})
	pb.Pointer(m, 5, "greets", &v.Greets, func(m *pb.Message, v *Greets) {
		pb.Strings(m, 1, "ports", maxGreets, maxKey, &v.Ports)
	})
	pb.Pointer(m, 6, "demand", &v.Demand, func(m *pb.Message, v *Demand) {
		pb.Messages(m, 1, "limits", MaxShares, &v.Limits, func(m *pb.Message, d *LimitDemand) {
			pb.String(m, 1, "limit", maxKey, &d.Limit)
			pb.Number(m, 2, "part", math.MaxUint64, &d.Part)
			pb.Bool(m, 3, "keyed", &d.Keyed)
			pb.Number(m, 4, "held", math.MaxUint64, &d.Held)
		})
	})
	if m.Ended() {
		m.Fail(oneof(v.Hello != nil, v.Subscribe != nil, v.Ack != nil, v.Status != nil, v.Greets != nil, v.Demand != nil))
	}
}

func helloMessage(m *pb.Message, v *Hello) {
	pb.String(m, 1, "name", maxName, &v.Name)
	pb.String(m, 2, "namespace", maxName, &v.Namespace)
	pb.String(m, 3, "version", maxName, &v.Version)
	pb.Enum(m, 4, "role", view.Gateway, &v.Role)
	pb.String(m, 5, "uid", maxName, &v.UID)
	pb.String(m, 6, "admin", maxName, &v.Admin)
	pb.String(m, 7, "zone", maxName, &v.Zone)
	pb.Messages(m, 8, "registrations", maxRegistrations, &v.Registrations, func(m *pb.Message, r *Registration) {
		pb.String(m, 1, "service", maxName, &r.Service)
		pb.Port(m, 2, "port", &r.Port)
		pb.AddrPort(m, 3, "app", &r.App)
		pb.AddrPort(m, 4, "mesh", &r.Mesh)
		pb.Enum(m, 5, "protocol", view.HTTP2, &r.Protocol)
	})
	pb.Messages(m, 9, "held", maxHeld, &v.Held, func(m *pb.Message, h *Held) {
		pb.String(m, 1, "key", maxKey, &h.Key)
		pb.Number(m, 2, "version", math.MaxUint64, &h.Version)
	})
	pb.String(m, 10, "mode", maxName, &v.Mode)
	pb.Number(m, 11, "pid", math.MaxUint64, &v.PID)
	pb.Bool(m, 12, "shares", &v.Shares)
}

// EncodeProxyMessage returns a ProxyMessage message.
func EncodeProxyMessage(m *ProxyMessage) []byte { return pb.Append(nil, m, proxyMessage) }

// DecodeProxyMessage reads a ProxyMessage message; at most one field is set.
func DecodeProxyMessage(b []byte) (*ProxyMessage, error) { return decode(b, proxyMessage) }

// fieldUpdate is ControlMessage.update, fieldResources Update.resources.
const fieldUpdate, fieldResources = 1, 3

func controlMessage(m *pb.Message, v *ControlMessage) {
	pb.Pointer(m, fieldUpdate, "update", &v.Update, updateMessage)
	pb.Empty(m, 2, "drained", &v.Drained)
	pb.Pointer(m, 3, "refused", &v.Refused, func(m *pb.Message, v *Refused) {
		pb.String(m, 1, "reason", maxText, &v.Reason)
	})
	pb.Pointer(m, 4, "shares", &v.Shares, func(m *pb.Message, v *Shares) {
		pb.Messages(m, 1, "limits", MaxShares, &v.Limits, func(m *pb.Message, s *Share) {
			pb.String(m, 1, "limit", maxKey, &s.Limit)
			pb.Number(m, 2, "part", math.MaxUint64, &s.Part)
		})
	})
	if m.Ended() {
		m.Fail(oneof(v.Update != nil, v.Drained, v.Refused != nil, v.Shares != nil))
	}
}

func updateMessage(m *pb.Message, v *Update) {
	pb.Number(m, 1, "nonce", math.MaxUint64, &v.Nonce)
	pb.Number(m, 2, "version", math.MaxUint64, &v.Version)
	pb.Messages(m, fieldResources, "resources", maxResources, &v.Resources, resourceMessage)
}

func resourceMessage(m *pb.Message, r *Resource) {
	pb.String(m, 1, "key", maxKey, &r.Key)
	pb.Number(m, 2, "version", math.MaxUint64, &r.Version)
	pb.Bool(m, 3, "absent", &r.Absent)
	pb.Pointer(m, 4, "proxy", &r.Proxy, view.ProxyMessage)
	pb.Pointer(m, 5, "bundle", &r.Bundle, view.BundleMessage)
	pb.Pointer(m, 6, "destination", &r.Destination, view.DestinationMessage)
	pb.Pointer(m, 7, "endpoints", &r.Endpoints, view.EndpointsMessage)
	pb.Pointer(m, 8, "host", &r.Host, view.HostMessage)
	if m.Ended() {
		m.Fail(r.valid())
	}
}

func (r *Resource) valid() error {
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
}

// EncodeControlMessage returns a ControlMessage message.
func EncodeControlMessage(m *ControlMessage) []byte { return pb.Append(nil, m, controlMessage) }

// DecodeControlMessage reads a ControlMessage message; at most one field is set.
func DecodeControlMessage(b []byte) (*ControlMessage, error) { return decode(b, controlMessage) }

// AppendResource appends the fields of a Resource message to b. The control
// plane keeps the bytes: one resource goes to many proxies.
func AppendResource(b []byte, r *Resource) []byte { return pb.Append(b, r, resourceMessage) }

// EncodeUpdate returns a ControlMessage with an Update whose resources are
// encoded already (AppendResource).
func EncodeUpdate(nonce, version uint64, resources [][]byte) []byte {
	c := &ControlMessage{Update: &Update{Nonce: nonce, Version: version}}
	return pb.Append(nil, c, func(m *pb.Message, c *ControlMessage) {
		pb.Pointer(m, fieldUpdate, "update", &c.Update, func(m *pb.Message, u *Update) {
			updateMessage(m, u)
			pb.Blobs(m, fieldResources, "resources", maxResources, MaxMessage, &resources)
		})
	})
}
