package control

import (
	"google.golang.org/protobuf/encoding/protowire"

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

	maxName          = 1024
	maxText          = 16 << 10 // a detail, an error, a reason
	maxKey           = 1200     // a resource's key: a part and a name
	maxCSR           = 64 << 10
	maxCertificate   = 64 << 10
	maxChain         = 8
	maxToken         = 1024
	maxSignature     = 4096
	maxRegistrations = 1024
	maxHeld          = 1 << 18
	maxGreets        = 1024
	maxKeys          = 1 << 18
	maxResources     = 1 << 18
)

func tooBig(b []byte) error {
	if len(b) > MaxMessage {
		return pb.Errorf("a message of %d bytes is too big, want at most %d", len(b), MaxMessage)
	}
	return nil
}

// message reads a message field into v.
func message[T any](f pb.Field, v *T, read func([]byte, *T) error) error {
	b, err := f.Message()
	if err != nil {
		return err
	}
	return read(b, v)
}

// element reads one message of a repeated field.
func element[T any](f pb.Field, field string, list *[]T, max int, read func([]byte, *T) error) error {
	var x T
	err := message(f, &x, read)
	if err == nil {
		err = pb.Grow(list, max, x)
	}
	return pb.InElement(field, len(*list), err)
}

// texts reads one element of a repeated string.
func texts(f pb.Field, field string, list *[]string, max int) error {
	var s string
	err := f.String(maxKey, &s)
	if err == nil {
		err = pb.Grow(list, max, s)
	}
	return pb.InElement(field, len(*list), err)
}

// chain reads one certificate of a chain.
func chain(f pb.Field, field string, list *[][]byte) error {
	var c []byte
	err := f.Bytes(maxCertificate, &c)
	if err == nil {
		err = pb.Grow(list, maxChain, c)
	}
	return pb.InElement(field, len(*list), err)
}

// oneof says that a message of which one field may be set has two. One that has
// none is of a newer program.
func oneof(n int) error {
	if n > 1 {
		return pb.Errorf("%d messages are set, want one", n)
	}
	return nil
}

// EncodeCertifyRequest returns a CertifyRequest message.
func EncodeCertifyRequest(m *CertifyRequest) []byte {
	b := pb.AppendBytes(nil, 1, m.CSR)
	b = pb.AppendString(b, 2, m.JoinToken)
	for _, c := range m.ExpiredChain {
		b = pb.AppendElement(b, 3, c)
	}
	return pb.AppendBytes(b, 4, m.RecoverySignature)
}

// DecodeCertifyRequest reads a CertifyRequest message.
func DecodeCertifyRequest(b []byte) (*CertifyRequest, error) {
	if err := tooBig(b); err != nil {
		return nil, err
	}
	m := &CertifyRequest{}
	err := pb.Fields(b, pb.Repeated(3), func(f pb.Field) error {
		switch f.Number {
		case 1:
			return pb.In("csr", f.Bytes(maxCSR, &m.CSR))
		case 2:
			return pb.In("join_token", f.String(maxToken, &m.JoinToken))
		case 3:
			return chain(f, "expired_chain", &m.ExpiredChain)
		case 4:
			return pb.In("recovery_signature", f.Bytes(maxSignature, &m.RecoverySignature))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// EncodeCertifyResponse returns a CertifyResponse message.
func EncodeCertifyResponse(m *CertifyResponse) []byte {
	var b []byte
	for _, c := range m.Chain {
		b = pb.AppendElement(b, 1, c)
	}
	b = pb.AppendMessage(b, 2, func(b []byte) []byte { return view.AppendBundle(b, &m.Bundle) })
	return pb.AppendString(b, 3, m.Identity)
}

// DecodeCertifyResponse reads a CertifyResponse message.
func DecodeCertifyResponse(b []byte) (*CertifyResponse, error) {
	if err := tooBig(b); err != nil {
		return nil, err
	}
	m := &CertifyResponse{}
	err := pb.Fields(b, pb.Repeated(1), func(f pb.Field) error {
		switch f.Number {
		case 1:
			return chain(f, "chain", &m.Chain)
		case 2:
			bundle, err := decoded(f, view.DecodeBundle)
			if err != nil {
				return pb.In("bundle", err)
			}
			m.Bundle = *bundle
		case 3:
			return pb.In("identity", f.String(maxName, &m.Identity))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// decoded reads a message field with one of view's decoders.
func decoded[T any](f pb.Field, decode func([]byte) (*T, error)) (*T, error) {
	b, err := f.Message()
	if err != nil {
		return nil, err
	}
	return decode(b)
}

// EncodeProxyMessage returns a ProxyMessage message.
func EncodeProxyMessage(m *ProxyMessage) []byte {
	switch {
	case m.Hello != nil:
		return pb.AppendMessage(nil, 1, func(b []byte) []byte { return appendHello(b, m.Hello) })
	case m.Subscribe != nil:
		return pb.AppendMessage(nil, 2, func(b []byte) []byte {
			for _, key := range m.Subscribe.Add {
				b = pb.AppendElement(b, 1, key)
			}
			for _, key := range m.Subscribe.Remove {
				b = pb.AppendElement(b, 2, key)
			}
			return b
		})
	case m.Ack != nil:
		return pb.AppendMessage(nil, 3, func(b []byte) []byte {
			return pb.AppendString(pb.AppendUint(b, 1, m.Ack.Nonce), 2, m.Ack.Error)
		})
	case m.Status != nil:
		return pb.AppendMessage(nil, 4, func(b []byte) []byte {
			b = pb.AppendBool(b, 1, m.Status.Ready)
			b = pb.AppendBool(b, 2, m.Status.Draining)
			return pb.AppendString(b, 3, m.Status.Detail)
		})
	case m.Greets != nil:
		return pb.AppendMessage(nil, 5, func(b []byte) []byte {
			for _, port := range m.Greets.Ports {
				b = pb.AppendElement(b, 1, port)
			}
			return b
		})
	case m.Demand != nil:
		return pb.AppendMessage(nil, 6, func(b []byte) []byte { return appendDemand(b, m.Demand) })
	}
	return nil
}

func appendHello(b []byte, m *Hello) []byte {
	b = pb.AppendString(b, 1, m.Name)
	b = pb.AppendString(b, 2, m.Namespace)
	b = pb.AppendString(b, 3, m.Version)
	b = pb.AppendUint(b, 4, uint64(m.Role))
	b = pb.AppendString(b, 5, m.UID)
	b = pb.AppendString(b, 6, m.Admin)
	b = pb.AppendString(b, 7, m.Zone)
	for i := range m.Registrations {
		r := &m.Registrations[i]
		b = pb.AppendMessage(b, 8, func(b []byte) []byte {
			b = pb.AppendString(b, 1, r.Service)
			b = pb.AppendUint(b, 2, uint64(r.Port))
			b = pb.AppendAddrPort(b, 3, r.App)
			b = pb.AppendAddrPort(b, 4, r.Mesh)
			return pb.AppendUint(b, 5, uint64(r.Protocol))
		})
	}
	for _, h := range m.Held {
		b = pb.AppendMessage(b, 9, func(b []byte) []byte {
			return pb.AppendUint(pb.AppendString(b, 1, h.Key), 2, h.Version)
		})
	}
	b = pb.AppendString(b, 10, m.Mode)
	return pb.AppendBool(pb.AppendUint(b, 11, m.PID), 12, m.Shares)
}

// DecodeProxyMessage reads a ProxyMessage message; at most one field is set.
func DecodeProxyMessage(b []byte) (*ProxyMessage, error) {
	if err := tooBig(b); err != nil {
		return nil, err
	}
	m := &ProxyMessage{}
	set := 0
	err := pb.Fields(b, 0, func(f pb.Field) error {
		switch f.Number {
		case 1:
			m.Hello, set = &Hello{}, set+1
			return pb.In("hello", message(f, m.Hello, readHello))
		case 2:
			m.Subscribe, set = &Subscribe{}, set+1
			return pb.In("subscribe", message(f, m.Subscribe, readSubscribe))
		case 3:
			m.Ack, set = &Ack{}, set+1
			return pb.In("ack", message(f, m.Ack, readAck))
		case 4:
			m.Status, set = &Status{}, set+1
			return pb.In("status", message(f, m.Status, readStatus))
		case 5:
			m.Greets, set = &Greets{}, set+1
			return pb.In("greets", message(f, m.Greets, readGreets))
		case 6:
			m.Demand, set = &Demand{}, set+1
			return pb.In("demand", message(f, m.Demand, readDemand))
		}
		return nil
	})
	if err == nil {
		err = oneof(set)
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

func readHello(b []byte, m *Hello) error {
	return pb.Fields(b, pb.Repeated(8, 9), func(f pb.Field) error {
		switch f.Number {
		case 1:
			return pb.In("name", f.String(maxName, &m.Name))
		case 2:
			return pb.In("namespace", f.String(maxName, &m.Namespace))
		case 3:
			return pb.In("version", f.String(maxName, &m.Version))
		case 4:
			return pb.In("role", f.Enum(uint8(view.Gateway), (*uint8)(&m.Role)))
		case 5:
			return pb.In("uid", f.String(maxName, &m.UID))
		case 6:
			return pb.In("admin", f.String(maxName, &m.Admin))
		case 7:
			return pb.In("zone", f.String(maxName, &m.Zone))
		case 8:
			return element(f, "registrations", &m.Registrations, maxRegistrations, readRegistration)
		case 9:
			return element(f, "held", &m.Held, maxHeld, readHeld)
		case 10:
			return pb.In("mode", f.String(maxName, &m.Mode))
		case 11:
			return pb.In("pid", f.Uint64(&m.PID))
		case 12:
			return pb.In("shares", f.Bool(&m.Shares))
		}
		return nil
	})
}

func readRegistration(b []byte, r *Registration) error {
	return pb.Fields(b, 0, func(f pb.Field) error {
		switch f.Number {
		case 1:
			return pb.In("service", f.String(maxName, &r.Service))
		case 2:
			return pb.In("port", f.Port(&r.Port))
		case 3:
			return pb.In("app", f.AddrPort(&r.App))
		case 4:
			return pb.In("mesh", f.AddrPort(&r.Mesh))
		case 5:
			return pb.In("protocol", f.Enum(uint8(view.HTTP2), (*uint8)(&r.Protocol)))
		}
		return nil
	})
}

func readHeld(b []byte, h *Held) error {
	return pb.Fields(b, 0, func(f pb.Field) error {
		switch f.Number {
		case 1:
			return pb.In("key", f.String(maxKey, &h.Key))
		case 2:
			return pb.In("version", f.Uint64(&h.Version))
		}
		return nil
	})
}

func readSubscribe(b []byte, m *Subscribe) error {
	return pb.Fields(b, pb.Repeated(1, 2), func(f pb.Field) error {
		switch f.Number {
		case 1:
			return texts(f, "add", &m.Add, maxKeys)
		case 2:
			return texts(f, "remove", &m.Remove, maxKeys)
		}
		return nil
	})
}

func readAck(b []byte, m *Ack) error {
	return pb.Fields(b, 0, func(f pb.Field) error {
		switch f.Number {
		case 1:
			return pb.In("nonce", f.Uint64(&m.Nonce))
		case 2:
			return pb.In("error", f.String(maxText, &m.Error))
		}
		return nil
	})
}

func readStatus(b []byte, m *Status) error {
	return pb.Fields(b, 0, func(f pb.Field) error {
		switch f.Number {
		case 1:
			return pb.In("ready", f.Bool(&m.Ready))
		case 2:
			return pb.In("draining", f.Bool(&m.Draining))
		case 3:
			return pb.In("detail", f.String(maxText, &m.Detail))
		}
		return nil
	})
}

func readGreets(b []byte, m *Greets) error {
	return pb.Fields(b, pb.Repeated(1), func(f pb.Field) error {
		if f.Number == 1 {
			return texts(f, "ports", &m.Ports, maxGreets)
		}
		return nil
	})
}

// EncodeControlMessage returns a ControlMessage message.
func EncodeControlMessage(m *ControlMessage) []byte {
	switch {
	case m.Update != nil:
		return pb.AppendMessage(nil, 1, func(b []byte) []byte { return appendUpdate(b, m.Update) })
	case m.Drained:
		return pb.AppendMessage(nil, 2, func(b []byte) []byte { return b })
	case m.Refused != nil:
		return pb.AppendMessage(nil, 3, func(b []byte) []byte { return pb.AppendString(b, 1, m.Refused.Reason) })
	case m.Shares != nil:
		return pb.AppendMessage(nil, 4, func(b []byte) []byte { return appendShares(b, m.Shares) })
	}
	return nil
}

func appendUpdate(b []byte, m *Update) []byte {
	b = pb.AppendUint(b, 1, m.Nonce)
	b = pb.AppendUint(b, 2, m.Version)
	for i := range m.Resources {
		b = pb.AppendMessage(b, 3, func(b []byte) []byte { return AppendResource(b, &m.Resources[i]) })
	}
	return b
}

// AppendResource appends the fields of a Resource message to b. The control
// plane keeps the bytes: one resource goes to many proxies.
func AppendResource(b []byte, r *Resource) []byte {
	b = pb.AppendString(b, 1, r.Key)
	b = pb.AppendUint(b, 2, r.Version)
	b = pb.AppendBool(b, 3, r.Absent)
	value := func(number protowire.Number, body func([]byte) []byte) { b = pb.AppendMessage(b, number, body) }
	switch {
	case r.Proxy != nil:
		value(4, func(b []byte) []byte { return view.AppendProxy(b, r.Proxy) })
	case r.Bundle != nil:
		value(5, func(b []byte) []byte { return view.AppendBundle(b, r.Bundle) })
	case r.Destination != nil:
		value(6, func(b []byte) []byte { return view.AppendDestination(b, r.Destination) })
	case r.Endpoints != nil:
		value(7, func(b []byte) []byte { return view.AppendEndpoints(b, r.Endpoints) })
	case r.Host != nil:
		value(8, func(b []byte) []byte { return view.AppendHost(b, r.Host) })
	}
	return b
}

// EncodeUpdate returns a ControlMessage with an Update whose resources are
// encoded already (AppendResource).
func EncodeUpdate(nonce, version uint64, resources [][]byte) []byte {
	return pb.AppendMessage(nil, 1, func(b []byte) []byte {
		b = pb.AppendUint(b, 1, nonce)
		b = pb.AppendUint(b, 2, version)
		for _, r := range resources {
			b = pb.AppendElement(b, 3, r)
		}
		return b
	})
}

// DecodeControlMessage reads a ControlMessage message; at most one field is set.
func DecodeControlMessage(b []byte) (*ControlMessage, error) {
	if err := tooBig(b); err != nil {
		return nil, err
	}
	m := &ControlMessage{}
	set := 0
	err := pb.Fields(b, 0, func(f pb.Field) error {
		switch f.Number {
		case 1:
			m.Update, set = &Update{}, set+1
			return pb.In("update", message(f, m.Update, readUpdate))
		case 2:
			m.Drained, set = true, set+1
			_, err := f.Message()
			return pb.In("drained", err)
		case 3:
			m.Refused, set = &Refused{}, set+1
			return pb.In("refused", message(f, m.Refused, readRefused))
		case 4:
			m.Shares, set = &Shares{}, set+1
			return pb.In("shares", message(f, m.Shares, readShares))
		}
		return nil
	})
	if err == nil {
		err = oneof(set)
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

func readRefused(b []byte, m *Refused) error {
	return pb.Fields(b, 0, func(f pb.Field) error {
		if f.Number == 1 {
			return pb.In("reason", f.String(maxText, &m.Reason))
		}
		return nil
	})
}

func readUpdate(b []byte, m *Update) error {
	return pb.Fields(b, pb.Repeated(3), func(f pb.Field) error {
		switch f.Number {
		case 1:
			return pb.In("nonce", f.Uint64(&m.Nonce))
		case 2:
			return pb.In("version", f.Uint64(&m.Version))
		case 3:
			return element(f, "resources", &m.Resources, maxResources, readResource)
		}
		return nil
	})
}

func readResource(b []byte, r *Resource) error {
	values := 0
	err := pb.Fields(b, 0, func(f pb.Field) (err error) {
		switch f.Number {
		case 1:
			return pb.In("key", f.String(maxKey, &r.Key))
		case 2:
			return pb.In("version", f.Uint64(&r.Version))
		case 3:
			return pb.In("absent", f.Bool(&r.Absent))
		case 4:
			r.Proxy, err = decoded(f, view.DecodeProxy)
			values++
			return pb.In("proxy", err)
		case 5:
			r.Bundle, err = decoded(f, view.DecodeBundle)
			values++
			return pb.In("bundle", err)
		case 6:
			r.Destination, err = decoded(f, view.DecodeDestination)
			values++
			return pb.In("destination", err)
		case 7:
			r.Endpoints, err = decoded(f, view.DecodeEndpoints)
			values++
			return pb.In("endpoints", err)
		case 8:
			r.Host, err = decoded(f, view.DecodeHost)
			values++
			return pb.In("host", err)
		}
		return nil
	})
	if err != nil {
		return err
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
