package h2

// Head is the decoded head or trailer section of one message, valid by
// RFC 9113, section 8. Its slices lie in memory of its own (or in static
// tables) and stay good until it is given back with Env.PutHead; they must not
// be written to.
type Head struct {
	// Of a request. Protocol is that of extended CONNECT (RFC 8441). Authority
	// is :authority or, without one, Host. Scheme and Path are empty for CONNECT.
	Method, Scheme, Authority, Path, Protocol []byte
	// Of a response: 100 to 599, never 101.
	Status int
	// Fields are the others, in order: names in lower case; cookie crumbs
	// joined into one field, at the place of the first; without Host.
	Fields []Field
	// Length is Content-Length, or -1.
	Length int64
	// TETrailers says that a request's sender takes trailers.
	TETrailers bool

	arena []byte
	conn  *Conn // that counts held
	held  int
}

// Field is one field of a head.
type Field struct {
	Name, Value []byte
	Never       bool // no hop may index it (RFC 7541, 6.2.3)
}

// Get returns the value of the first field of that name, given in lower case;
// ok says whether there is one.
func (h *Head) Get(name string) (value []byte, ok bool) {
	for i := range h.Fields {
		if string(h.Fields[i].Name) == name {
			return h.Fields[i].Value, true
		}
	}
	return nil, false
}

// mark is where a field's strings lie in a head's arena while it may still
// move; names of the static table stay where they are.
type mark struct {
	name     []byte // when static
	at       int    // of the name, or of the value when name is static
	nameLen  int
	valueLen int
	never    bool
	cookie   bool  // where the joined cookie goes
	pseudo   uint8 // bit of a request's pseudo-header field, or 0
}

// Interim says that another response follows on the stream (1xx).
func (h *Head) Interim() bool { return h.Status >= 100 && h.Status < 200 }
