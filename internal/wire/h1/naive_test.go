package h1

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// The naive parser reads a whole head at once with regular expressions made of
// the RFCs' grammar, and knows nothing of speed. It is what the real one is
// compared with on any input.

var (
	naiveRequestLine = regexp.MustCompile("^([!#$%&'*+\\-.^_`|~0-9A-Za-z]{1,64}) ([^ \r\n]+) HTTP/(1)\\.([0-9])$")
	naiveStatusLine  = regexp.MustCompile("^HTTP/1\\.([0-9]) ([1-5][0-9][0-9])(?: ([\t\\x20-\\x7e\\x80-\\xff]*))?$")
	naiveField       = regexp.MustCompile("^([!#$%&'*+\\-.^_`|~0-9A-Za-z]+)([ \t]*):[ \t]*([\t\\x20-\\x7e\\x80-\\xff]*?)[ \t]*$")
	naivePath        = regexp.MustCompile("^/(?:[\\-._~0-9A-Za-z!$&'()*+,;=:@/\\[\\]{}|^`]|%[0-9A-Fa-f]{2})*(?:\\?[\\-._~0-9A-Za-z!$&'()*+,;=:@/?%\\[\\]{}|^`\\\\]*)?$")
	naiveAuthority   = regexp.MustCompile("^(\\[[^\\]]*\\]|(?:[\\-._~0-9A-Za-z!$&'()*+;=]|%[0-9A-Fa-f]{2})+)(?::([0-9]{0,5}))?$")
	naiveFuture      = regexp.MustCompile("^[vV][0-9A-Fa-f]+\\.[\\-._~0-9A-Za-z!$&'()*+;=:]+$")
	naiveAbsolute    = regexp.MustCompile("^(?i:https?)://([^/?#]*)(.*)$")
	naiveToken       = regexp.MustCompile("^[!#$%&'*+\\-.^_`|~0-9A-Za-z]+$")
	naiveDigits      = regexp.MustCompile("^[0-9]+$")
)

// latin makes one character of each byte, so that expressions can name bytes.
func latin(b []byte) string {
	r := make([]rune, len(b))
	for i, c := range b {
		r[i] = rune(c)
	}
	return string(r)
}

func naiveHost(a string) (port string, ok bool) {
	m := naiveAuthority.FindStringSubmatch(a)
	if m == nil {
		return "", false
	}
	if n, _ := strconv.Atoi(m[2]); n > 65535 {
		return "", false
	}
	if literal, found := strings.CutPrefix(m[1], "["); found {
		literal = strings.TrimSuffix(literal, "]")
		addr, err := netip.ParseAddr(literal)
		if (err != nil || !addr.Is6() || addr.Zone() != "") && !naiveFuture.MatchString(literal) {
			return "", false
		}
	}
	return m[2], true
}

// naiveList splits a list and drops empty elements.
func naiveList(values []string) (list []string) {
	for _, e := range strings.Split(strings.Join(values, ","), ",") {
		if e = strings.Trim(e, " \t"); e != "" {
			list = append(list, e)
		}
	}
	return list
}

type naiveHead struct {
	fields map[string][]string
	rest   []byte
}

// naiveLines reads everything behind the start line.
func naiveLines(in []byte, response bool) (start string, h naiveHead, ok bool) {
	head, rest, found := strings.Cut(latin(in), "\r\n\r\n")
	if !found {
		return "", h, false
	}
	h.rest = in[len(in)-len([]rune(rest)):]
	lines := strings.Split(head, "\r\n")
	h.fields = map[string][]string{}
	for _, l := range lines[1:] {
		m := naiveField.FindStringSubmatch(l)
		if m == nil || m[2] != "" && !response {
			return "", h, false
		}
		name := strings.ToLower(m[1])
		h.fields[name] = append(h.fields[name], m[3])
	}
	return lines[0], h, len(lines)-1 <= DefaultMaxFields && len(head)+4 <= DefaultMaxHead
}

// connection reads the Connection fields.
func (h *naiveHead) connection(minor string, response bool) (keep, upgrade, ok bool) {
	keep = minor != "0"
	closes := false
	list := naiveList(h.fields["connection"])
	for _, o := range list {
		switch o = strings.ToLower(o); o {
		case "close":
			closes = true
		case "keep-alive":
			keep = true
		case "upgrade":
			upgrade = true
		case "host", "content-length", "authorization", "cookie", "forwarded", "x-forwarded-for", "via", "expect", "early-data":
			if !response {
				return false, false, false
			}
		}
		if !naiveToken.MatchString(o) {
			return false, false, false
		}
	}
	return keep && !closes, upgrade, len(list) <= maxOptions
}

// naiveLength reads one length; false when it isn't one, or too large.
func naiveLength(v string) (string, bool) {
	if !naiveDigits.MatchString(v) {
		return "", false
	}
	v = strings.TrimLeft(v, "0")
	if v == "" {
		v = "0"
	}
	return v, len(v) <= MaxLengthDigits
}

// chunkedOnly says that Transfer-Encoding is a single chunked.
func (h *naiveHead) chunkedOnly() bool {
	list := naiveList(h.fields["transfer-encoding"])
	return len(list) == 1 && strings.EqualFold(list[0], "chunked")
}

// naiveRequest says what a request's head comes to: "reject", "more" when it
// isn't whole, or the facts that matter.
func naiveRequest(in []byte) string {
	for range MaxEmptyLines {
		in = []byte(strings.TrimPrefix(string(in), "\r\n"))
	}
	line, h, ok := naiveLines(in, false)
	if !ok {
		return "reject"
	}
	m := naiveRequestLine.FindStringSubmatch(line)
	if m == nil || len(m[2]) > DefaultMaxTarget {
		return "reject"
	}
	method, target, minor := m[1], m[2], m[4]
	if minor != "0" {
		minor = "1"
	}

	hosts := h.fields["host"]
	if len(hosts) > 1 || len(hosts) == 0 && minor != "0" {
		return "reject"
	}
	authority := ""
	if len(hosts) == 1 && !(hosts[0] == "" && (minor == "0" || method == "CONNECT" || naiveAbsolute.MatchString(target))) {
		if _, ok := naiveHost(hosts[0]); !ok {
			return "reject"
		}
		authority = hosts[0]
	}
	path := target
	switch abs := naiveAbsolute.FindStringSubmatch(target); {
	case method == "CONNECT":
		port, ok := naiveHost(target)
		if n, _ := strconv.Atoi(port); !ok || n == 0 {
			return "reject"
		}
		authority, path = target, ""
	case strings.HasPrefix(target, "/"):
	case target == "*" && method == "OPTIONS":
	case abs != nil:
		authority, path = abs[1], abs[2]
		if _, ok := naiveHost(authority); !ok {
			return "reject"
		}
		switch {
		case path == "" && method == "OPTIONS":
			path = "*"
		case !strings.HasPrefix(path, "/"):
			path = "/" + path
		}
	default:
		return "reject"
	}
	if path != "" && path != "*" && !naivePath.MatchString(path) {
		return "reject"
	}

	keep, _, ok := h.connection(minor, false)
	if !ok {
		return "reject"
	}
	framing := "none"
	length, hasLength := h.fields["content-length"]
	_, hasCoding := h.fields["transfer-encoding"]
	switch {
	case hasCoding && (hasLength || minor == "0" || !h.chunkedOnly()):
		return "reject"
	case hasCoding:
		framing = "chunked"
	case hasLength:
		n, ok := naiveLength(length[0])
		if len(length) > 1 || !ok {
			return "reject"
		}
		framing = n
	}
	if (method == "TRACE" || method == "CONNECT") && framing != "none" && framing != "0" {
		return "reject"
	}
	if method == "CONNECT" {
		framing = "tunnel"
	}
	if hops := h.fields["max-forwards"]; (method == "TRACE" || method == "OPTIONS") && hops != nil {
		if len(hops) > 1 || !naiveDigits.MatchString(hops[0]) {
			return "reject"
		}
	}
	return fmt.Sprintf("%s %s %s keep=%v framing=%s rest=%d", method, authority, path, keep, framing, len(h.rest))
}

// facts says the same of a parsed request.
func (r *Request) facts(rest int) string {
	return fmt.Sprintf("%s %s %s keep=%v framing=%s rest=%d", latin(r.MethodName), latin(r.Authority), latin(r.Path), r.KeepAlive, framingFact(r.Framing, r.Length), rest)
}

func framingFact(f Framing, n int64) string {
	switch f {
	case Length:
		return strconv.FormatInt(n, 10)
	case Chunked:
		return "chunked"
	case UntilClose:
		return "close"
	case Tunnel:
		return "tunnel"
	}
	return "none"
}

// naiveResponse says what a response's head to a GET, HEAD or CONNECT comes to.
func naiveResponse(in []byte, method Method) string {
	line, h, ok := naiveLines(in, true)
	if !ok {
		return "reject"
	}
	m := naiveStatusLine.FindStringSubmatch(line)
	if m == nil || m[2] == "101" {
		return "reject" // no upgrade was offered
	}
	minor, status := m[1], m[2]
	keep, _, ok := h.connection(minor, true)
	if !ok {
		return "reject"
	}
	lengths, hasLength := h.fields["content-length"]
	_, hasCoding := h.fields["transfer-encoding"]
	length, validLength := "0", true
	for i, v := range lengths {
		list := naiveList([]string{v})
		validLength = validLength && len(list) > 0
		for j, e := range list {
			n, ok := naiveLength(e)
			validLength = validLength && ok && (i+j == 0 || n == length)
			length = n
		}
	}
	framing := ""
	switch {
	case method == CONNECT && status[0] == '2':
		framing, keep = "tunnel", false
	case status[0] == '1' || status == "204":
		framing = "none"
		keep = keep && !hasCoding && validLength && length == "0"
	case method == HEAD || status == "304":
		framing = "none"
		keep = keep && validLength && !(hasCoding && (hasLength || minor == "0" || !h.chunkedOnly()))
	case !validLength, hasCoding && (hasLength || minor == "0" || !h.chunkedOnly()):
		return "reject"
	case hasCoding:
		framing = "chunked"
	case hasLength:
		framing = length
	default:
		framing, keep = "close", false
	}
	return fmt.Sprintf("%s %s keep=%v framing=%s rest=%d", status, m[3], keep, framing, len(h.rest))
}

func (r *Response) facts(rest int) string {
	return fmt.Sprintf("%d %s keep=%v framing=%s rest=%d", r.Status, latin(r.Reason), r.KeepAlive, framingFact(r.Framing, r.Length), rest)
}

var naiveSize = regexp.MustCompile("^(0*[0-9A-Fa-f]{1,15})(?:[ \t]*;[ \t]*[!#$%&'*+\\-.^_`|~0-9A-Za-z]+(?:[ \t]*=[ \t]*(?:[!#$%&'*+\\-.^_`|~0-9A-Za-z]+|\"(?:[\t \\x21\\x23-\\x5b\\x5d-\\x7e\\x80-\\xff]|\\\\[\t\\x20-\\x7e\\x80-\\xff])*\"))?)*$")

// naiveChunked decodes a chunked body that is all there. ok is false when it is
// malformed or cut.
func naiveChunked(in []byte) (data []byte, trailers []string, rest int, ok bool) {
	for {
		line, _, found := strings.Cut(string(in), "\r\n")
		if !found || len(line)+2 > MaxChunkLine {
			return nil, nil, 0, false
		}
		m := naiveSize.FindStringSubmatch(latin([]byte(line)))
		if m == nil {
			return nil, nil, 0, false
		}
		in = in[len(line)+2:]
		n, _ := strconv.ParseInt(m[1], 16, 64)
		if n == 0 {
			break
		}
		if int64(len(in)) < n+2 || string(in[n:n+2]) != "\r\n" {
			return nil, nil, 0, false
		}
		data = append(data, in[:n]...)
		in = in[n+2:]
	}
	for {
		line, _, found := strings.Cut(string(in), "\r\n")
		if !found {
			return nil, nil, 0, false
		}
		in = in[len(line)+2:]
		if line == "" {
			return data, trailers, len(in), len(trailers) <= DefaultMaxFields
		}
		m := naiveField.FindStringSubmatch(latin([]byte(line)))
		if m == nil || m[2] != "" {
			return nil, nil, 0, false
		}
		trailers = append(trailers, m[1]+": "+m[3])
	}
}
