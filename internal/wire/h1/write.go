package h1

import "strconv"

// RequestOptions say how a request is sent on.
type RequestOptions struct {
	// Via is our name in the Via field; empty writes none.
	Via string
	// Authority replaces the request's own in Host when not nil.
	Authority []byte
	// Absolute keeps absolute-form, for a next hop that is a proxy itself.
	Absolute bool
	// Upgrade passes Request.Upgrade on (with Connection: upgrade).
	Upgrade bool
	// Close writes Connection: close.
	Close bool
	// Set are fields written by us; received fields of those names (Set[i].Name,
	// any case) are dropped. A Set field without a value is only dropped.
	Set []Field
}

// AppendRequest appends r's head to dst as it is sent to the next hop: Host
// first, fields of the hop left out, framing written anew (the body goes on
// with the framing it came with), Via last.
func AppendRequest(dst []byte, r *Request, o *RequestOptions) []byte {
	authority := r.Authority
	if o.Authority != nil {
		authority = o.Authority
	}
	dst = append(dst, r.MethodName...)
	dst = append(dst, ' ')
	switch {
	case r.Form == AuthorityForm:
		dst = append(dst, r.Authority...)
	case o.Absolute && r.Form == AbsoluteForm:
		dst = append(append(dst, r.Scheme...), "://"...)
		dst = append(dst, r.Authority...)
		if len(r.Path) != 1 || r.Path[0] != '*' {
			dst = append(dst, r.Path...)
		}
	default:
		dst = append(dst, r.Path...)
	}
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	dst = append(dst, authority...)
	dst = append(dst, "\r\n"...)
	dst = appendFields(dst, r.Fields, o.Set, false)
	if r.MaxForwards > 0 {
		dst = append(dst, "Max-Forwards: "...)
		dst = strconv.AppendInt(dst, int64(r.MaxForwards-1), 10)
		dst = append(dst, "\r\n"...)
	}
	switch r.Framing {
	case Length:
		dst = appendLength(dst, r.Length)
	case Chunked:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	}
	upgrade := o.Upgrade && len(r.Upgrade) > 0
	if upgrade {
		dst = appendField(dst, "Upgrade", r.Upgrade)
	}
	if r.TETrailers {
		dst = append(dst, "TE: trailers\r\n"...)
	}
	dst = appendConnection(dst, o.Close, upgrade, r.TETrailers, false)
	dst = appendVia(dst, r.Two, r.Minor, o.Via)
	return append(dst, "\r\n"...)
}

// ResponseOptions say how a response is sent on.
type ResponseOptions struct {
	// Via is our name in the Via field; empty writes none.
	Via string
	// Date is an IMF-fixdate (see AppendDate), written when a final response has
	// none (RFC 9110, 6.6.1); empty writes none.
	Date []byte
	// ClientMinor is Request.Minor of the request answered.
	ClientMinor uint8
	// Close writes Connection: close. It is written in any case when the framing
	// returned is UntilClose.
	Close bool
	// Trailers says that trailers will be sent on: Trailer fields are kept.
	Trailers bool
	// Set is as RequestOptions.Set.
	Set []Field
}

// AppendResponse appends r's head to dst as it is sent to the client, and
// returns the framing the body must be sent with: chunked where the length
// isn't known and the client knows chunked, until close otherwise.
func AppendResponse(dst []byte, r *Response, o *ResponseOptions) ([]byte, Framing) {
	framing := r.Framing
	if framing == Chunked || framing == UntilClose {
		framing = Chunked
		if o.ClientMinor == 0 {
			framing = UntilClose
		}
	}
	dst = append(dst, "HTTP/1.1 "...)
	dst = append(dst, byte('0'+r.Status/100), byte('0'+r.Status/10%10), byte('0'+r.Status%10), ' ')
	dst = append(dst, r.Reason...)
	dst = append(dst, "\r\n"...)
	dst = appendFields(dst, r.Fields, o.Set, framing != Chunked || !o.Trailers)
	if len(o.Date) > 0 && r.Status >= 200 && !sends(r.Fields, Date) {
		dst = appendField(dst, "Date", o.Date)
	}
	switch {
	case framing == Chunked:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	case framing == Length || framing == NoBody && r.hasLength:
		dst = appendLength(dst, r.Length)
	}
	if len(r.Upgrade) > 0 {
		dst = appendField(dst, "Upgrade", r.Upgrade)
	}
	if final := r.Status >= 200 || r.Status == 101; final {
		stop := r.Status >= 200 && framing != Tunnel && (o.Close || framing == UntilClose)
		keep := framing != Tunnel && !stop && o.ClientMinor == 0
		dst = appendConnection(dst, stop, len(r.Upgrade) > 0, false, keep)
	}
	dst = appendVia(dst, r.Two, r.Minor, o.Via)
	return append(dst, "\r\n"...), framing
}

// appendFields appends the fields that are forwarded, then set.
func appendFields(dst []byte, fields, set []Field, dropTrailer bool) []byte {
next:
	for i := range fields {
		f := &fields[i]
		if f.Drop || dropTrailer && f.ID == Trailer {
			continue
		}
		for j := range set {
			if equalFold(f.Name, set[j].Name) {
				continue next
			}
		}
		dst = append(dst, f.Name...)
		dst = append(dst, ": "...)
		dst = append(dst, f.Value...)
		dst = append(dst, "\r\n"...)
	}
	for j := range set {
		if len(set[j].Value) > 0 {
			dst = append(dst, set[j].Name...)
			dst = append(dst, ": "...)
			dst = append(dst, set[j].Value...)
			dst = append(dst, "\r\n"...)
		}
	}
	return dst
}

func appendLength(dst []byte, n int64) []byte {
	dst = append(dst, "Content-Length: "...)
	dst = strconv.AppendInt(dst, n, 10)
	return append(dst, "\r\n"...)
}

// appendConnection appends a Connection field with those options, if any.
func appendConnection(dst []byte, closes, upgrade, te, keep bool) []byte {
	if !closes && !upgrade && !te && !keep {
		return dst
	}
	dst = append(dst, "Connection: "...)
	n := len(dst)
	add := func(on bool, option string) {
		if on {
			if len(dst) > n {
				dst = append(dst, ", "...)
			}
			dst = append(dst, option...)
		}
	}
	add(closes, "close")
	add(keep, "keep-alive")
	add(upgrade, "upgrade")
	add(te, "TE")
	return append(dst, "\r\n"...)
}

// appendVia appends our Via: the version the message came with and our name
// (RFC 9110, 7.6.3).
func appendVia(dst []byte, two bool, minor uint8, name string) []byte {
	if name == "" {
		return dst
	}
	dst = append(dst, "Via: "...)
	dst = append(dst, ViaVersion(two, minor)...)
	dst = append(dst, ' ')
	dst = append(dst, name...)
	return append(dst, "\r\n"...)
}

func appendField(dst []byte, name string, value []byte) []byte {
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = append(dst, value...)
	return append(dst, "\r\n"...)
}

// AppendField appends one field line. The caller answers for name and value.
func AppendField(dst []byte, name, value string) []byte {
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = append(dst, value...)
	return append(dst, "\r\n"...)
}

// AppendChunkHeader appends the size line of a chunk of n > 0 bytes. The chunk's
// data and ChunkEnd follow.
func AppendChunkHeader(dst []byte, n int) []byte {
	dst = strconv.AppendUint(dst, uint64(n), 16)
	return append(dst, "\r\n"...)
}

// MaxChunkHeader is the most bytes AppendChunkHeader appends.
const MaxChunkHeader = MaxChunkDigits + 1 + len("\r\n")

// ChunkEnd ends each chunk's data.
const ChunkEnd = "\r\n"

// AppendLastChunk appends the last chunk with those trailers.
func AppendLastChunk(dst []byte, trailers []Field) []byte {
	dst = append(dst, "0\r\n"...)
	dst = appendFields(dst, trailers, nil, false)
	return append(dst, "\r\n"...)
}

// AppendStatusLine appends "HTTP/1.1 STATUS REASON" with the registered reason.
func AppendStatusLine(dst []byte, status int) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = append(dst, byte('0'+status/100), byte('0'+status/10%10), byte('0'+status%10), ' ')
	dst = append(dst, Reason(status)...)
	return append(dst, "\r\n"...)
}

// AppendDate appends the IMF-fixdate (RFC 9110, 5.6.7) of a Unix time in
// seconds, 0 or later.
func AppendDate(dst []byte, unix int64) []byte {
	const days, months = "ThuFriSatSunMonTueWed", "JanFebMarAprMayJunJulAugSepOctNovDec"
	day, second := unix/86400, unix%86400
	// Days to civil date, in eras of 400 years that begin on 1 March.
	z := day + 719468
	era := z / 146097
	doe := z % 146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	date := doy - (153*mp+2)/5 + 1
	month := mp + 3
	year := yoe + era*400
	if month > 12 {
		month -= 12
		year++
	}
	dst = append(dst, days[day%7*3:day%7*3+3]...)
	dst = append(dst, ", "...)
	dst = two(dst, date)
	dst = append(dst, ' ')
	dst = append(dst, months[month*3-3:month*3]...)
	dst = append(dst, ' ')
	dst = two(two(dst, year/100), year%100)
	dst = append(dst, ' ')
	dst = append(two(dst, second/3600), ':')
	dst = append(two(dst, second/60%60), ':')
	dst = two(dst, second%60)
	return append(dst, " GMT"...)
}

func two(dst []byte, n int64) []byte { return append(dst, byte('0'+n/10), byte('0'+n%10)) }
