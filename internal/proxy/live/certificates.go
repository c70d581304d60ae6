package live

import (
	"crypto/tls"
	"fmt"
	"iter"
	"slices"
	"strings"

	"tulle.dev/tulle/internal/view"
)

// Certificates are what an Edge listener shows, by the server name that a client
// asks for. They are immutable and safe for concurrent use.
type Certificates struct {
	exact    map[string]*Served
	suffixes []servedSuffix // longest first
	any      *Served
	all      []*Served
}

// Served is one Gateway listener of a port.
type Served struct {
	// Listener is its name; empty for the one that everything goes to that no
	// other covers.
	Listener string

	certificates []*tls.Certificate
}

// Ends says whether TLS ends at the listener: else it is passed through.
func (s *Served) Ends() bool { return s != nil && len(s.certificates) > 0 }

type servedSuffix struct {
	value  string // ".example" of "*.example"
	served *Served
}

func compileCertificates(l *view.Listener) (*Certificates, error) {
	c := &Certificates{exact: make(map[string]*Served)}
	for i := range l.Certificates {
		s := &l.Certificates[i]
		served := c.served(s.Listener)
		if len(s.Certificate)+len(s.Key) > 0 {
			pair, err := tls.X509KeyPair(s.Certificate, s.Key)
			if err != nil {
				return nil, fmt.Errorf("certificates[%d] (%s): %w", i, s.Listener, err)
			}
			served.certificates = append(served.certificates, &pair)
		}
		names := s.Hostnames
		if len(names) == 0 {
			names = []string{"*"}
		}
		for _, name := range names {
			if err := c.add(strings.ToLower(name), served); err != nil {
				return nil, fmt.Errorf("certificates[%d].hostnames: %w", i, err)
			}
		}
	}
	if len(l.Certificate) > 0 || len(l.Key) > 0 {
		pair, err := tls.X509KeyPair(l.Certificate, l.Key)
		if err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
		if c.any == nil {
			c.any = c.served("")
		}
		c.any.certificates = append(c.any.certificates, &pair)
	}
	if len(c.all) == 0 {
		return nil, nil
	}
	slices.SortFunc(c.suffixes, func(a, b servedSuffix) int { return len(b.value) - len(a.value) })
	return c, nil
}

// served finds or makes a listener.
func (c *Certificates) served(name string) *Served {
	for _, s := range c.all {
		if s.Listener == name {
			return s
		}
	}
	s := &Served{Listener: name}
	c.all = append(c.all, s)
	return s
}

// add lets a listener have a name, unless an earlier one has it.
func (c *Certificates) add(name string, s *Served) error {
	switch {
	case name == "*":
		if c.any == nil {
			c.any = s
		}
	case strings.HasPrefix(name, "*.") && len(name) > 2 && !strings.Contains(name[1:], "*"):
		if !slices.ContainsFunc(c.suffixes, func(o servedSuffix) bool { return o.value == name[1:] }) {
			c.suffixes = append(c.suffixes, servedSuffix{name[1:], s})
		}
	case name == "" || strings.Contains(name, "*"):
		return fmt.Errorf("%q: want a name, \"*.NAME\" or \"*\"", name)
	case c.exact[name] == nil:
		c.exact[name] = s
	}
	return nil
}

// Several reports whether there is more than one listener.
func (c *Certificates) Several() bool { return len(c.all) > 1 }

// All are the certificates, by their listeners, in the order of the view. A nil
// receiver has none.
func (c *Certificates) All() iter.Seq2[*Served, *tls.Certificate] {
	return func(yield func(*Served, *tls.Certificate) bool) {
		if c == nil {
			return
		}
		for _, s := range c.all {
			for _, pair := range s.certificates {
				if !yield(s, pair) {
					return
				}
			}
		}
	}
}

// For returns the listener that covers a name best, or nil. The name is in lower
// case, without a final dot, and empty when the client says none.
func (c *Certificates) For(name []byte) *Served {
	if s := c.exact[string(name)]; s != nil {
		return s
	}
	for i := range c.suffixes {
		if v := c.suffixes[i].value; len(name) > len(v) && string(name[len(name)-len(v):]) == v {
			return c.suffixes[i].served
		}
	}
	return c.any
}

// Get is tls.Config.GetCertificate. A name that nobody covers has none, which a
// client is told with unrecognized_name.
func (c *Certificates) Get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	s := c.For([]byte(strings.TrimSuffix(strings.ToLower(hello.ServerName), ".")))
	if !s.Ends() {
		return nil, nil
	}
	for _, pair := range s.certificates {
		if hello.SupportsCertificate(pair) == nil {
			return pair, nil
		}
	}
	return s.certificates[0], nil
}
