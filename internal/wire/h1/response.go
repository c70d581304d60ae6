package h1

// Reset makes r ready for the next head; memory is kept.
func (r *Response) Reset() {
	lines, fields, named := r.scan.lines[:0], r.Fields[:0], r.named[:0]
	*r = Response{Fields: fields, named: named}
	r.scan.lines = lines
}

// Started says that bytes of a head have been seen by Parse.
func (r *Response) Started() bool { return r.scan.started || r.scan.seen > 0 }

// Parse reads a response head at the start of buf, as Request.Parse does. Every
// Error has status 502: the upstream connection is closed and the response
// discarded.
func (r *Response) Parse(buf []byte, asked Asked, lim *Limits) (n int, err *Error) {
	if lim == nil {
		lim = &noLimits
	}
	n, f := r.parse(buf, asked, lim)
	if f != fine {
		return 0, f.response()
	}
	return n, nil
}

func (r *Response) parse(buf []byte, asked Asked, lim *Limits) (int, fault) {
	s := &r.scan
	maxHead := or(lim.MaxHead, DefaultMaxHead)
	if !s.started {
		start, end, f := s.next(buf)
		if f != fine {
			return 0, f
		}
		if end < 0 {
			if !isStatusLine(buf) {
				return 0, faultStatusLine // needn't wait for the line's end
			}
			if len(buf) >= maxHead {
				return 0, faultHeadLarge
			}
			return 0, fine
		}
		s.started = true
		if f := r.readLine(buf, start, end); f != fine {
			return 0, f
		}
	}
	done, f := s.fields(buf, maxHead, or(lim.MaxFields, DefaultMaxFields), true)
	if !done || f != fine {
		return 0, f
	}
	r.Fields = s.materialise(r.Fields, buf)
	r.Reason = r.reason.of(buf)
	if f := r.decide(asked); f != fine {
		return 0, f
	}
	return s.line, fine
}

// isStatusLine says that b may become a status line.
func isStatusLine(b []byte) bool {
	const form = "HTTP/1.d sdd"
	for i := range min(len(b), len(form)) {
		ok := b[i] == form[i]
		switch form[i] {
		case 'd':
			ok = isDigit(b[i])
		case 's':
			ok = '1' <= b[i] && b[i] <= '5'
		}
		if !ok {
			return false
		}
	}
	return len(b) <= len(form) || b[len(form)] == ' ' || b[len(form)] == '\r'
}

// readLine reads the status line buf[start:end] (RFC 9112, 4). The space after
// the status may be missing when there is no reason phrase, as many servers
// send it (a recipient may parse on word boundaries).
func (r *Response) readLine(buf []byte, start, end int) fault {
	b := buf[start:end]
	if len(b) < len("HTTP/1.1 200") {
		return faultStatusLine
	}
	minor, f := readVersion(b[:8])
	if f != fine || b[8] != ' ' || b[9] < '1' || b[9] > '5' ||
		!isDigit(b[10]) || !isDigit(b[11]) {
		return faultStatusLine
	}
	r.Minor = minor
	r.Status = int(b[9]-'0')*100 + int(b[10]-'0')*10 + int(b[11]-'0')
	if len(b) == 12 {
		r.reason = span{end, end}
		return fine
	}
	if b[12] != ' ' || !isText(b[13:]) {
		return faultStatusLine
	}
	r.reason = span{start + 13, end}
	return fine
}

// Rebase points all slices of a parsed head at buf, which holds the same bytes
// as the buffer it was parsed in.
func (r *Response) Rebase(buf []byte) {
	r.scan.rebase(r.Fields, buf)
	r.Reason = r.reason.of(buf)
	if r.upgrade > 0 {
		r.Upgrade = r.Fields[r.upgrade-1].Value
	}
}

// Get returns the first field with that id, or nil.
func (r *Response) Get(id NameID) *Field { return get(r.Fields, id) }

// Lookup returns the first field of that name, given in lower case, or nil.
func (r *Response) Lookup(lower string) *Field { return lookup(r.Fields, lower) }

// decide settles what the head means once all its fields are there: the body's
// framing by RFC 9112, 6.3, in its order.
func (r *Response) decide(asked Asked) fault {
	var (
		opts     = options{named: r.named[:0]}
		coding   codings
		lengths  int
		length   int64
		invalid  = fine // what is wrong with Content-Length
		upgrades int
	)
	for i := range r.Fields {
		field := &r.Fields[i]
		switch field.ID {
		case OtherName:
		case ContentLength:
			n, count, f := lengthList(field.Value)
			if f == fine && lengths > 0 && n != length {
				f = faultLengthTwice
			}
			if f != fine {
				invalid = f
			}
			lengths += count
			length = n
			field.Drop = true
		case TransferEncoding:
			coding.read(field.Value)
			field.Drop = true
		case Connection:
			field.Drop = true
			if f := opts.read(r.Fields, field.Value, true); f != fine {
				return f
			}
		case KeepAlive, ProxyConnection, HTTP2Settings, TE:
			field.Drop = true
		case Upgrade:
			upgrades++
			r.upgrade = i + 1
			field.Drop = true
		}
	}
	r.named = opts.named
	r.KeepAlive = !opts.close && (r.Minor > 0 || opts.keepAlive)

	switch {
	case r.Status == 101:
		if len(asked.Upgrade) == 0 || !opts.upgrade || upgrades != 1 || !offered(r.Fields[r.upgrade-1].Value, asked.Upgrade) {
			return faultUpgrade
		}
		r.Upgrade = r.Fields[r.upgrade-1].Value
		r.Framing, r.KeepAlive = Tunnel, false
		return fine
	case asked.Method == CONNECT && r.Status/100 == 2:
		r.upgrade = 0
		r.Framing, r.KeepAlive = Tunnel, false
		return fine
	}
	// A 426 must say what it asks for (RFC 9110, 15.5.22), also where its server
	// forgot to name the field in Connection.
	if r.Status == 426 && upgrades == 1 && isOffer(r.Fields[r.upgrade-1].Value) {
		r.Upgrade = r.Fields[r.upgrade-1].Value
	} else {
		r.upgrade = 0
	}

	if r.Status < 200 || r.Status == 204 {
		// These end with their head whatever it says, and must not say it. A
		// server that does may send a body all the same.
		if coding.present || invalid != fine || length > 0 {
			r.KeepAlive = false
		}
		r.Framing = NoBody
		dropAll(r.Fields, Trailer)
		return fine
	}
	wrong := invalid
	switch {
	case wrong != fine || !coding.present:
	case lengths > 0:
		wrong = faultLengthAndCoding
	default:
		wrong = coding.check(r.Minor)
	}
	if asked.Method == HEAD || r.Status == 304 {
		// These end with their head too, whatever it says of a body (RFC 9112, 6.3,
		// 1). What makes no sense isn't passed on, nor is the server believed again.
		r.KeepAlive = r.KeepAlive && wrong == fine
		if lengths > 0 && wrong == fine {
			r.hasLength, r.Length = true, length
		}
		r.Framing = NoBody
		return fine
	}
	if wrong != fine {
		return wrong
	}
	r.hasLength, r.Length = lengths > 0, length
	switch {
	case coding.present:
		r.Framing = Chunked
	case lengths > 0:
		r.Framing = Length
	default:
		r.Framing, r.KeepAlive = UntilClose, false
	}
	return fine
}

// lengthList reads a response's Content-Length: a number, or the same number
// several times, which RFC 9112, 6.3 lets a recipient take as one.
func lengthList(value []byte) (n int64, count int, f fault) {
	for {
		e, rest, ok := element(value)
		if !ok {
			if count == 0 {
				return 0, 1, faultLength
			}
			return n, count, fine
		}
		value = rest
		m, f := number(e)
		if f == fine && count > 0 && m != n {
			f = faultLengthTwice
		}
		if f != fine {
			return 0, 1, f
		}
		n = m
		count++
	}
}

// offered says that each protocol of chosen is in the list that was offered.
func offered(chosen, offer []byte) bool {
	n := 0
	for {
		protocol, rest, ok := element(chosen)
		if !ok {
			return n > 0
		}
		chosen = rest
		n++
		found := false
		for list := offer; !found; {
			e, rest, ok := element(list)
			if !ok {
				return false
			}
			list = rest
			found = equalFold(e, protocol)
		}
	}
}
