package h1

import "bytes"

// or returns a limit, or its default when it is zero.
func or(limit, def int) int {
	if limit > 0 {
		return limit
	}
	return def
}

var noLimits Limits

// Reset makes r ready for the next head; memory is kept.
func (r *Request) Reset() {
	lines, fields, scratch, named := r.scan.lines[:0], r.Fields[:0], r.scratch[:0], r.named[:0]
	*r = Request{Fields: fields, scratch: scratch, named: named, MaxForwards: -1}
	r.scan.lines = lines
}

// Started says that bytes of a head have been seen by Parse; the empty lines
// that may stand before it aren't.
func (r *Request) Started() bool { return r.scan.started || r.scan.seen > r.scan.line }

// Parse reads a request head at the start of buf. It returns the head's length
// when it is whole, 0 when more bytes are needed; buf must then start at the
// same byte next time, wherever it lies in memory. Empty lines before the head
// count as part of it. After an error the connection can carry nothing more:
// answer Status with Connection: close. A nil lim means the defaults.
func (r *Request) Parse(buf []byte, lim *Limits) (n int, err *Error) {
	if lim == nil {
		lim = &noLimits
	}
	n, f := r.parse(buf, lim)
	if f != fine {
		return 0, f.request()
	}
	return n, nil
}

func (r *Request) parse(buf []byte, lim *Limits) (int, fault) {
	s := &r.scan
	maxHead := or(lim.MaxHead, DefaultMaxHead)
	for !s.started {
		start, end, f := s.next(buf)
		if f != fine {
			return 0, f
		}
		if end < 0 {
			return 0, r.startLineLong(buf, maxHead, lim)
		}
		if start == end {
			if s.empty++; s.empty > MaxEmptyLines {
				return 0, faultEmptyLines
			}
			continue
		}
		if s.line > maxHead {
			return 0, faultTargetLong
		}
		s.started = true
		if f := r.readLine(buf, start, end, lim); f != fine {
			return 0, f
		}
	}
	done, f := s.fields(buf, maxHead, or(lim.MaxFields, DefaultMaxFields), false)
	if !done || f != fine {
		return 0, f
	}
	r.Fields = s.materialise(r.Fields, buf)
	r.slices(buf)
	if f := r.decide(); f != fine {
		return 0, f
	}
	return s.line, fine
}

// startLineLong says whether an unfinished request line is already too long.
func (r *Request) startLineLong(buf []byte, maxHead int, lim *Limits) fault {
	line := buf[r.scan.line:]
	if f := lineBegun(line); f != fine {
		return f
	}
	maxTarget := or(lim.MaxTarget, DefaultMaxTarget)
	if len(line) <= MaxMethod && len(buf) < maxHead {
		return fine
	}
	if bytes.IndexByte(line[:min(len(line), MaxMethod+1)], ' ') < 0 {
		return faultMethodLong
	}
	if len(buf) >= maxHead || len(line) > MaxMethod+1+maxTarget+len(" HTTP/1.1\r\n") {
		return faultTargetLong
	}
	return fine
}

// lineBegun says what is wrong with an unfinished request line already, so that
// nobody waits for the end of what can't become one.
func lineBegun(line []byte) fault {
	i := 0
	for i < min(len(line), MaxMethod) && classes[line[i]]&classToken != 0 {
		i++
	}
	switch {
	case i == len(line) || i == MaxMethod || i == 0 && line[0] == '\r':
		return fine
	case i == 0 || line[i] != ' ':
		return faultRequestLine
	}
	target := line[i+1:]
	i = bytes.IndexByte(target, ' ')
	if i == 0 {
		return faultRequestLine
	}
	if i < 0 {
		return fine
	}
	const form = "HTTP/d.d\r"
	version := target[i+1:]
	for i := range min(len(version), len(form)) {
		if version[i] != form[i] && (form[i] != 'd' || !isDigit(version[i])) {
			return faultVersion
		}
	}
	return fine
}

// readLine reads the request line buf[start:end] (RFC 9112, 3).
func (r *Request) readLine(buf []byte, start, end int, lim *Limits) fault {
	b := buf[start:end]
	i := 0
	for i < len(b) && classes[b[i]]&classToken != 0 {
		i++
	}
	if i > MaxMethod {
		return faultMethodLong
	}
	if i == 0 || i == len(b) || b[i] != ' ' {
		return faultRequestLine
	}
	r.at.method = span{start, start + i}
	r.Method = methodOf(b[:i])
	target := i + 1
	n := bytes.IndexByte(b[target:], ' ')
	if n < 0 {
		if len(b)-target > or(lim.MaxTarget, DefaultMaxTarget) {
			return faultTargetLong
		}
		return faultRequestLine // HTTP/0.9, or cut
	}
	if n == 0 {
		return faultRequestLine
	}
	if n > or(lim.MaxTarget, DefaultMaxTarget) {
		return faultTargetLong
	}
	minor, f := readVersion(b[target+n+1:])
	if f != fine {
		return f
	}
	r.Minor = minor
	r.at.target = span{start + target, start + target + n}
	return r.readTarget(buf)
}

// readVersion reads HTTP-version. Any minor version is as good as 1, but for 0
// (RFC 9110, 2.5).
func readVersion(b []byte) (minor uint8, f fault) {
	if string(b) == "HTTP/1.1" {
		return 1, fine
	}
	if len(b) != 8 || string(b[:5]) != "HTTP/" || !isDigit(b[5]) || b[6] != '.' || !isDigit(b[7]) {
		return 0, faultVersion
	}
	if b[5] != '1' {
		return 0, faultMajor
	}
	return b[7] - '0', fine
}

// methodOf recognises a method.
func methodOf(b []byte) Method {
	switch string(b) {
	case "GET":
		return GET
	case "POST":
		return POST
	case "PUT":
		return PUT
	case "HEAD":
		return HEAD
	case "DELETE":
		return DELETE
	case "PATCH":
		return PATCH
	case "OPTIONS":
		return OPTIONS
	case "CONNECT":
		return CONNECT
	case "TRACE":
		return TRACE
	}
	return MethodOther
}

// slices sets the slices that aren't Fields.
func (r *Request) slices(buf []byte) {
	r.MethodName = r.at.method.of(buf)
	r.Target = r.at.target.of(buf)
	r.Path = r.at.path.of(buf)
	if r.noPath {
		if r.Method == OPTIONS && len(r.Path) == 0 {
			// The last proxy asks about the whole server (RFC 9112, 3.2.4).
			r.scratch = append(r.scratch[:0], '*')
		} else {
			r.scratch = append(append(r.scratch[:0], '/'), r.Path...)
		}
		r.Path = r.scratch
	}
	r.Authority = r.at.authority.of(buf)
	if r.upgrade > 0 {
		r.Upgrade = r.Fields[r.upgrade-1].Value
	}
}

// Rebase points all slices of a parsed head at buf, which holds the same bytes
// as the buffer it was parsed in.
func (r *Request) Rebase(buf []byte) {
	r.scan.rebase(r.Fields, buf)
	r.slices(buf)
}

// Get returns the first field with that id, or nil.
func (r *Request) Get(id NameID) *Field { return get(r.Fields, id) }

// Lookup returns the first field of that name, given in lower case, or nil.
func (r *Request) Lookup(lower string) *Field { return lookup(r.Fields, lower) }

// decide settles what the head means once all its fields are there.
func (r *Request) decide() fault {
	var (
		opts     = options{named: r.named[:0]}
		coding   codings
		host     = -1
		lengths  int
		expect   bool
		upgrades int
	)
	r.Length, r.MaxForwards = 0, -1
	for i := range r.Fields {
		field := &r.Fields[i]
		switch field.ID {
		case OtherName:
		case Host:
			if host >= 0 {
				return faultHostTwice
			}
			host = i
			field.Drop = true
		case ContentLength:
			if lengths++; lengths > 1 {
				return faultLengthTwice
			}
			n, f := number(field.Value)
			if f != fine {
				return f
			}
			r.Length = n
			field.Drop = true
		case TransferEncoding:
			coding.read(field.Value)
			field.Drop = true
		case Connection:
			field.Drop = true
			if f := opts.read(r.Fields, field.Value, false); f != fine {
				return f
			}
		case KeepAlive, ProxyConnection, HTTP2Settings:
			field.Drop = true
		case Upgrade:
			upgrades++
			r.upgrade = i + 1
			field.Drop = true
		case TE:
			field.Drop = true
			r.TETrailers = r.TETrailers || r.Minor > 0 && hasElement(field.Value, "trailers")
		case Expect:
			if hasElement(field.Value, "100-continue") {
				expect = true
			}
		case MaxForwards:
			if r.Method == TRACE || r.Method == OPTIONS {
				if f := r.readMaxForwards(field); f != fine {
					return f
				}
			}
		}
	}
	if f := r.decideHost(host); f != fine {
		return f
	}

	switch {
	case coding.present && lengths > 0:
		return faultLengthAndCoding
	case coding.present:
		if f := coding.check(r.Minor); f != fine {
			return f
		}
		r.Framing = Chunked
	case lengths > 0:
		r.Framing = Length
	default:
		r.Framing = NoBody
	}
	content := r.Framing == Chunked || r.Length > 0
	if content && (r.Method == TRACE || r.Method == CONNECT) {
		// Neither has content (RFC 9110, 9.3.6 and 9.3.8): what follows could be
		// taken for a body or for a tunnel's bytes.
		return faultContent
	}
	if r.Method == CONNECT {
		r.Framing, r.Length = Tunnel, 0
	}

	r.named = opts.named
	r.KeepAlive = !opts.close && (r.Minor > 0 || opts.keepAlive)
	r.decideUpgrade(opts.upgrade && upgrades == 1 && !content && r.Method != CONNECT)
	if expect {
		// HTTP/1.0 clients don't wait, and without content nobody does
		// (RFC 9110, 10.1.1).
		if r.Minor > 0 && content {
			r.Expect100 = true
		} else {
			dropAll(r.Fields, Expect)
		}
	}
	if r.Framing != Chunked {
		dropAll(r.Fields, Trailer)
	}
	return fine
}

// decideHost checks the Host field and takes the authority from it when the
// target has none (RFC 9112, 3.2 and 3.3).
func (r *Request) decideHost(host int) fault {
	if host < 0 {
		if r.Minor > 0 {
			return faultHostMissing
		}
		return fine
	}
	value := r.Fields[host].Value
	if len(value) == 0 && (r.Minor == 0 || r.Form == AbsoluteForm || r.Form == AuthorityForm) {
		return fine // the target says it, and Host is ignored
	}
	if _, ok := checkAuthority(value); !ok {
		return faultHost
	}
	if r.Form == OriginForm || r.Form == AsteriskForm {
		r.Authority = value
		l := r.scan.lines[host]
		r.at.authority = span{int(l.value), int(l.valueEnd)}
	}
	return fine
}

// decideUpgrade keeps the offer to switch protocols when it may be passed on:
// one field, from HTTP/1.1, without content before the switch, and not to
// HTTP/2, which would take the next messages out of our sight. A server may
// ignore any offer (RFC 9110, 7.8).
func (r *Request) decideUpgrade(offered bool) {
	if !offered || r.Minor == 0 || r.upgrade == 0 || !isOffer(r.Fields[r.upgrade-1].Value) {
		r.upgrade = 0
		return
	}
	r.Upgrade = r.Fields[r.upgrade-1].Value
}

// isOffer says that value is a list of protocols, none of them HTTP's own.
func isOffer(value []byte) bool {
	n := 0
	for {
		protocol, rest, ok := element(value)
		if !ok {
			return n > 0
		}
		value = rest
		n++
		name := protocol
		if slash := bytes.IndexByte(protocol, '/'); slash >= 0 {
			name = protocol[:slash]
			if !isToken(protocol[slash+1:]) {
				return false
			}
		}
		if !isToken(name) || EqualFold(name, "h2c") || EqualFold(name, "h2") || EqualFold(name, "http") {
			return false
		}
	}
}

// hasElement says that a list of tokens holds one, given in lower case.
func hasElement(list []byte, lower string) bool {
	for {
		e, rest, ok := element(list)
		if !ok {
			return false
		}
		if EqualFold(e, lower) {
			return true
		}
		list = rest
	}
}

// readMaxForwards reads the one Max-Forwards of a TRACE or OPTIONS.
func (r *Request) readMaxForwards(field *Field) fault {
	if r.MaxForwards >= 0 {
		return faultMaxForwards
	}
	n, f := number(field.Value)
	switch {
	case f == faultLengthLarge:
		n = 1 << 30
	case f != fine:
		return faultMaxForwards
	}
	r.MaxForwards = int(min(n, 1<<30))
	field.Drop = true
	return fine
}

// dropAll marks all fields of that name as not forwarded.
func dropAll(fields []Field, id NameID) {
	for i := range fields {
		if fields[i].ID == id {
			fields[i].Drop = true
		}
	}
}
