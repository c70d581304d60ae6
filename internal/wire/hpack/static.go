package hpack

// StaticLen is the number of entries of the static table (RFC 7541,
// appendix A); the dynamic table's indices begin after it.
const StaticLen = 61

// static is the table; index 0 is unused.
var static = [StaticLen + 1]struct{ name, value []byte }{
	1:  {b(":authority"), nil},
	2:  {b(":method"), b("GET")},
	3:  {b(":method"), b("POST")},
	4:  {b(":path"), b("/")},
	5:  {b(":path"), b("/index.html")},
	6:  {b(":scheme"), b("http")},
	7:  {b(":scheme"), b("https")},
	8:  {b(":status"), b("200")},
	9:  {b(":status"), b("204")},
	10: {b(":status"), b("206")},
	11: {b(":status"), b("304")},
	12: {b(":status"), b("400")},
	13: {b(":status"), b("404")},
	14: {b(":status"), b("500")},
	15: {b("accept-charset"), nil},
	16: {b("accept-encoding"), b("gzip, deflate")},
	17: {b("accept-language"), nil},
	18: {b("accept-ranges"), nil},
	19: {b("accept"), nil},
	20: {b("access-control-allow-origin"), nil},
	21: {b("age"), nil},
	22: {b("allow"), nil},
	23: {b("authorization"), nil},
	24: {b("cache-control"), nil},
	25: {b("content-disposition"), nil},
	26: {b("content-encoding"), nil},
	27: {b("content-language"), nil},
	28: {b("content-length"), nil},
	29: {b("content-location"), nil},
	30: {b("content-range"), nil},
	31: {b("content-type"), nil},
	32: {b("cookie"), nil},
	33: {b("date"), nil},
	34: {b("etag"), nil},
	35: {b("expect"), nil},
	36: {b("expires"), nil},
	37: {b("from"), nil},
	38: {b("host"), nil},
	39: {b("if-match"), nil},
	40: {b("if-modified-since"), nil},
	41: {b("if-none-match"), nil},
	42: {b("if-range"), nil},
	43: {b("if-unmodified-since"), nil},
	44: {b("last-modified"), nil},
	45: {b("link"), nil},
	46: {b("location"), nil},
	47: {b("max-forwards"), nil},
	48: {b("proxy-authenticate"), nil},
	49: {b("proxy-authorization"), nil},
	50: {b("range"), nil},
	51: {b("referer"), nil},
	52: {b("refresh"), nil},
	53: {b("retry-after"), nil},
	54: {b("server"), nil},
	55: {b("set-cookie"), nil},
	56: {b("strict-transport-security"), nil},
	57: {b("transfer-encoding"), nil},
	58: {b("user-agent"), nil},
	59: {b("vary"), nil},
	60: {b("via"), nil},
	61: {b("www-authenticate"), nil},
}

func b(s string) []byte { return []byte(s) }

// Indices of the static table that callers name.
const (
	IndexAuthority          = 1
	IndexMethodGET          = 2
	IndexMethodPOST         = 3
	IndexPathRoot           = 4
	IndexSchemeHTTP         = 6
	IndexSchemeHTTPS        = 7
	IndexStatus200          = 8
	indexAuthorization      = 23
	IndexCookie             = 32
	indexProxyAuthorization = 49
)

// staticNames finds a name's first index: one slot for each name, no two
// names in one (a test holds the hash to that).
var staticNames = func() (t [256]uint8) {
	for i := StaticLen; i > 0; i-- {
		t[nameHash(static[i].name)] = uint8(i)
	}
	return t
}()

// Factors of nameHash, found by trial.
const (
	staticA = 240
	staticB = 248
	staticC = 109
	staticD = 130
)

// nameHash tells the names of the static table apart.
func nameHash(name []byte) uint8 {
	n := len(name)
	return uint8(n*staticA + int(name[n/2])*staticB + int(name[n-1])*staticC + int(name[n/4])*staticD)
}

// staticIndex is the first index of the static table with that name, or 0.
func staticIndex(name []byte) uint8 {
	if len(name) == 0 {
		return 0
	}
	i := staticNames[nameHash(name)]
	if i == 0 || string(static[i].name) != string(name) {
		return 0
	}
	return i
}

// staticValue looks among the entries that share the name of entry i for one
// with the value, and returns 0 when there is none.
func staticValue(i uint8, value []byte) uint8 {
	for j := i; j <= StaticLen && len(static[j].value) > 0 && string(static[j].name) == string(static[i].name); j++ {
		if string(static[j].value) == string(value) {
			return j
		}
	}
	return 0
}

// StaticName is the name of the static table's entry i, 1 to StaticLen. It
// must not be written to.
func StaticName(i uint8) []byte { return static[i].name }
