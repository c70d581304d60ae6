package http1

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/textproto"
	"strconv"
	"strings"
)

// message is one HTTP/1.1 message as it was on the wire.
type message struct {
	head     string // with its empty line
	start    string
	lines    []string
	body     string
	trailers []string
	framing  string // none, length, chunked, close
	complete bool
}

func (m *message) field(name string) string {
	var values []string
	for _, l := range m.lines {
		n, v, _ := strings.Cut(l, ":")
		if strings.EqualFold(n, name) {
			values = append(values, strings.TrimSpace(v))
		}
	}
	return strings.Join(values, ", ")
}

func (m *message) status() int {
	if len(m.start) < 12 {
		return 0
	}
	n, _ := strconv.Atoi(m.start[9:12])
	return n
}

// readMessage reads a message. method is that of the request a response answers;
// empty reads a request. What came of a message that is cut is returned too.
func readMessage(r *bufio.Reader, method string) (*message, error) {
	m := &message{framing: "none"}
	for {
		l, err := r.ReadString('\n')
		m.head += l
		if err != nil {
			return m, err
		}
		if !strings.HasSuffix(l, "\r\n") {
			return m, fmt.Errorf("a line without CR LF: %q", l)
		}
		l = l[:len(l)-2]
		if l == "" {
			break
		}
		if m.start == "" {
			m.start = l
		} else {
			m.lines = append(m.lines, l)
		}
	}
	response := method != ""
	s := m.status()
	length, coding := m.field("Content-Length"), m.field("Transfer-Encoding")
	switch {
	case response && (s < 200 || s == 204 || s == 304 || method == "HEAD" || method == "CONNECT" && s < 300):
		m.complete = true
		return m, nil
	case length != "" && coding != "":
		return m, errors.New("both framings")
	case coding != "":
		if coding != "chunked" {
			return m, fmt.Errorf("coding %q", coding)
		}
		m.framing = "chunked"
		return m, m.readChunks(r)
	case length != "":
		m.framing = "length"
		n, err := strconv.Atoi(length)
		if err != nil {
			return m, err
		}
		if n > 1<<20 {
			n = 1 << 20 // nobody sends that
		}
		b := make([]byte, n)
		n, err = io.ReadFull(r, b)
		m.body = string(b[:n])
		m.complete = err == nil
		return m, err
	case response:
		m.framing = "close"
		b, err := io.ReadAll(r)
		m.body = string(b)
		m.complete = err == nil
		return m, err
	}
	m.complete = true
	return m, nil
}

func (m *message) readChunks(r *bufio.Reader) error {
	for {
		l, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		n, err := strconv.ParseUint(strings.TrimSuffix(l, "\r\n"), 16, 31)
		if err != nil {
			return fmt.Errorf("chunk size %q", l)
		}
		if n == 0 {
			break
		}
		b := make([]byte, n+2)
		k, err := io.ReadFull(r, b)
		m.body += string(b[:min(k, int(n))])
		if err != nil {
			return err
		}
		if string(b[n:]) != "\r\n" {
			return fmt.Errorf("after a chunk: %q", b[n:])
		}
	}
	t := textproto.NewReader(r)
	for {
		l, err := t.ReadLine()
		if err != nil {
			return err
		}
		if l == "" {
			m.complete = true
			return nil
		}
		m.trailers = append(m.trailers, l)
	}
}
