package sim_test

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// message is an HTTP message being read, by a reader that shares nothing with
// the codec under test and believes nothing: whatever is odd is an error.
type message struct {
	in       []byte
	head     bool // complete
	start    string
	fields   map[string]string
	names    []string
	framing  framing
	left     int
	body     []byte
	trailers map[string]string
	done     bool
	// noBody is asked, once the head is there, whether a response has none.
	noBody func(*message) bool
	part   int // of the chunked coding: 0 size, 1 data, 2 end of data, 3 trailers
}

// add takes bytes in. It returns an error when they make no sense.
func (m *message) add(b []byte) error {
	m.in = append(m.in, b...)
	return m.step()
}

func (m *message) step() error {
	if !m.head {
		if ok, err := m.readHead(); !ok || err != nil {
			return err
		}
	}
	for !m.done {
		switch m.framing {
		case none:
			m.done = true
		case length:
			n := min(m.left, len(m.in))
			m.take(n)
			m.left -= n
			if m.left > 0 {
				return nil
			}
			m.done = true
		case untilClose:
			m.take(len(m.in))
			return nil
		case chunks:
			if ok, err := m.chunk(); !ok || err != nil {
				return err
			}
		}
	}
	return nil
}

// end is the end of the stream.
func (m *message) end() error {
	if m.head && m.framing == untilClose {
		m.done = true
	}
	if !m.done {
		return fmt.Errorf("cut: head %v, %d bytes of body", m.head, len(m.body))
	}
	return nil
}

func (m *message) take(n int) {
	m.body = append(m.body, m.in[:n]...)
	m.in = m.in[n:]
}

func (m *message) line() (string, bool, error) {
	i := bytes.IndexByte(m.in, '\n')
	if i < 0 {
		return "", false, nil
	}
	if i == 0 || m.in[i-1] != '\r' {
		return "", false, fmt.Errorf("a bare LF in %.60q", m.in)
	}
	l := string(m.in[:i-1])
	m.in = m.in[i+1:]
	return l, true, nil
}

func parseFields(lines []string) (map[string]string, []string, error) {
	fields, names := map[string]string{}, []string(nil)
	for _, l := range lines {
		name, value, ok := strings.Cut(l, ": ")
		if !ok || name == "" || strings.ContainsAny(name, " \t") {
			return nil, nil, fmt.Errorf("field line %q", l)
		}
		name = strings.ToLower(name)
		if old, ok := fields[name]; ok {
			value = old + ", " + value
		}
		fields[name] = value
		names = append(names, name)
	}
	return fields, names, nil
}

func (m *message) readHead() (bool, error) {
	i := bytes.Index(m.in, []byte("\r\n\r\n"))
	if i < 0 {
		if len(m.in) > 70<<10 {
			return false, fmt.Errorf("an endless head: %.60q", m.in)
		}
		return false, nil
	}
	lines := strings.Split(string(m.in[:i]), "\r\n")
	m.in = m.in[i+4:]
	m.head, m.start = true, lines[0]
	var err error
	if m.fields, m.names, err = parseFields(lines[1:]); err != nil {
		return false, err
	}
	n, hasLength := m.fields["content-length"]
	coding, hasCoding := m.fields["transfer-encoding"]
	switch response := strings.HasPrefix(m.start, "HTTP/1.1 "); {
	case hasLength && hasCoding:
		return false, fmt.Errorf("both framings in %q", lines)
	case m.noBody != nil && m.noBody(m):
		m.framing = none
	case hasCoding:
		if coding != "chunked" {
			return false, fmt.Errorf("transfer-encoding %q", coding)
		}
		m.framing = chunks
	case hasLength:
		if m.left, err = strconv.Atoi(n); err != nil {
			return false, err
		}
		m.framing = length
	case response:
		m.framing = untilClose
	}
	return true, nil
}

func (m *message) chunk() (bool, error) {
	switch m.part {
	case 0:
		l, ok, err := m.line()
		if !ok || err != nil {
			return false, err
		}
		size, err := strconv.ParseUint(l, 16, 31)
		if err != nil {
			return false, fmt.Errorf("chunk size %q", l)
		}
		m.left, m.part = int(size), 1
		if size == 0 {
			m.part = 3
		}
	case 1:
		n := min(m.left, len(m.in))
		m.take(n)
		if m.left -= n; m.left > 0 {
			return false, nil
		}
		m.part = 2
	case 2:
		if len(m.in) < 2 {
			return false, nil
		}
		if string(m.in[:2]) != "\r\n" {
			return false, fmt.Errorf("after a chunk: %.20q", m.in)
		}
		m.in = m.in[2:]
		m.part = 0
	case 3:
		l, ok, err := m.line()
		if !ok || err != nil {
			return false, err
		}
		if l == "" {
			m.done = true
			return true, nil
		}
		f, _, err := parseFields([]string{l})
		if err != nil {
			return false, err
		}
		if m.trailers == nil {
			m.trailers = map[string]string{}
		}
		for k, v := range f {
			m.trailers[k] = v
		}
	}
	return true, nil
}

func (m *message) status() int {
	if len(m.start) < 12 {
		return 0
	}
	n, _ := strconv.Atoi(m.start[9:12])
	return n
}
