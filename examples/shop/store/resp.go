package store

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Limits on what is read from the other side.
const (
	maxArgs = 64
	maxBulk = 64 << 10
	maxLine = 1 << 10
)

// writeCommand writes args as an array of bulk strings.
func writeCommand(w *bufio.Writer, args ...string) {
	fmt.Fprintf(w, "*%d\r\n", len(args))
	for _, a := range args {
		writeBulk(w, a)
	}
}

func writeBulk(w *bufio.Writer, s string) { fmt.Fprintf(w, "$%d\r\n%s\r\n", len(s), s) }

// reply is one RESP value: a string or a list of strings. Integers are kept
// as their digits, nil as ok == false.
type reply struct {
	text string
	list []string
	ok   bool
}

// Error is an error that the store answered with.
type Error string

func (e Error) Error() string { return "store: " + string(e) }

// readReply reads one value; an error answer is returned as an Error.
func readReply(r *bufio.Reader) (reply, error) {
	kind, line, err := readLine(r)
	if err != nil {
		return reply{}, err
	}
	switch kind {
	case '+', ':':
		return reply{text: line, ok: true}, nil
	case '-':
		return reply{}, Error(line)
	case '$':
		s, ok, err := readBulk(r, line)
		return reply{text: s, ok: ok}, err
	case '*':
		list, err := readList(r, line)
		return reply{list: list, ok: list != nil}, err
	}
	return reply{}, fmt.Errorf("store: a value can't begin with %q", kind)
}

// readCommand reads an array of bulk strings: what a client sends.
func readCommand(r *bufio.Reader) ([]string, error) {
	kind, line, err := readLine(r)
	if err != nil {
		return nil, err
	}
	if kind != '*' {
		return nil, fmt.Errorf("store: a command begins with '*', not %q", kind)
	}
	return readList(r, line)
}

func readList(r *bufio.Reader, line string) ([]string, error) {
	n, err := strconv.Atoi(line)
	if err != nil || n < -1 || n > maxArgs {
		return nil, fmt.Errorf("store: a list of %q values", line)
	}
	if n == -1 {
		return nil, nil
	}
	list := make([]string, n)
	for i := range list {
		kind, line, err := readLine(r)
		if err != nil {
			return nil, err
		}
		switch kind {
		case '$':
			if list[i], _, err = readBulk(r, line); err != nil {
				return nil, err
			}
		case '+', ':':
			list[i] = line
		default:
			return nil, fmt.Errorf("store: a list can't hold a value that begins with %q", kind)
		}
	}
	return list, nil
}

func readBulk(r *bufio.Reader, line string) (string, bool, error) {
	n, err := strconv.Atoi(line)
	if err != nil || n < -1 || n > maxBulk {
		return "", false, fmt.Errorf("store: a string of %q bytes", line)
	}
	if n == -1 {
		return "", false, nil
	}
	b := make([]byte, n+2)
	if _, err := io.ReadFull(r, b); err != nil {
		return "", false, err
	}
	if b[n] != '\r' || b[n+1] != '\n' {
		return "", false, errors.New("store: a string is longer than it says")
	}
	return string(b[:n]), true, nil
}

// readLine reads one line and splits its first byte off.
func readLine(r *bufio.Reader) (kind byte, rest string, err error) {
	var line []byte
	for {
		b, err := r.ReadByte()
		if err != nil {
			return 0, "", err
		}
		if b == '\n' {
			break
		}
		if line = append(line, b); len(line) > maxLine {
			return 0, "", errors.New("store: a line is too long")
		}
	}
	if len(line) < 2 || line[len(line)-1] != '\r' {
		return 0, "", errors.New("store: a line doesn't end with CRLF")
	}
	return line[0], string(line[1 : len(line)-1]), nil
}
