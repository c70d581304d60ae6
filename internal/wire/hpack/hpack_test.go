package hpack

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	oracle "golang.org/x/net/http2/hpack"
)

// decode reads a block with a reader of its own.
func decode(d *Decoder, block []byte) (fields []string, err error) {
	var r Reader
	r.Reset(d, block)
	var f Field
	for {
		ok, err := r.Next(&f)
		if !ok {
			return fields, err
		}
		s := fmt.Sprintf("%s: %s", f.Name, f.Value)
		if f.Never {
			s += " (never)"
		}
		fields = append(fields, s)
	}
}

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The examples of RFC 7541, appendix C: three blocks on one connection each.
func TestExamples(t *testing.T) {
	for _, c := range []struct {
		name   string
		table  int // its size, when the example limits it
		blocks []string
		want   [][]string
		size   int // of the table at the end
	}{
		{"C.2.1", 0, []string{"400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572"}, [][]string{{"custom-key: custom-header"}}, 55},
		{"C.2.2", 0, []string{"040c 2f73 616d 706c 652f 7061 7468"}, [][]string{{":path: /sample/path"}}, 0},
		{"C.2.3", 0, []string{"1008 7061 7373 776f 7264 0673 6563 7265 74"}, [][]string{{"password: secret (never)"}}, 0},
		{"C.2.4", 0, []string{"82"}, [][]string{{":method: GET"}}, 0},
		{"C.3", 0, []string{
			"8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
			"8286 84be 5808 6e6f 2d63 6163 6865",
			"8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
		}, [][]string{
			{":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"},
			{":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com", "cache-control: no-cache"},
			{":method: GET", ":scheme: https", ":path: /index.html", ":authority: www.example.com", "custom-key: custom-value"},
		}, 164},
		{"C.4", 0, []string{
			"8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
			"8286 84be 5886 a8eb 1064 9cbf",
			"8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
		}, [][]string{
			{":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"},
			{":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com", "cache-control: no-cache"},
			{":method: GET", ":scheme: https", ":path: /index.html", ":authority: www.example.com", "custom-key: custom-value"},
		}, 164},
		{"C.6", 256, []string{
			"4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
			"4883 640e ffc1 c0bf",
			"88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
		}, [][]string{
			{":status: 302", "cache-control: private", "date: Mon, 21 Oct 2013 20:13:21 GMT", "location: https://www.example.com"},
			{":status: 307", "cache-control: private", "date: Mon, 21 Oct 2013 20:13:21 GMT", "location: https://www.example.com"},
			{":status: 200", "cache-control: private", "date: Mon, 21 Oct 2013 20:13:22 GMT", "location: https://www.example.com", "content-encoding: gzip",
				"set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"},
		}, 215},
	} {
		t.Run(c.name, func(t *testing.T) {
			var d Decoder
			for i, b := range c.blocks {
				block := unhex(t, b)
				if i == 0 && c.table > 0 {
					block = append(appendInteger(nil, 0x20, 5, uint32(c.table)), block...)
				}
				got, err := decode(&d, block)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(c.want[i], got); diff != "" {
					t.Errorf("block %d: %s", i, diff)
				}
			}
			if d.table.size != c.size {
				t.Errorf("table of %d bytes, want %d", d.table.size, c.size)
			}
		})
	}
}

func TestDecodeErrors(t *testing.T) {
	for _, c := range []struct {
		name, block string
		err         error
	}{
		{"index 0", "80", errIndex},
		{"index beyond static", "be", errIndex},
		{"name index beyond", "7f 00 01 61", errIndex},
		{"truncated index", "ff", errTruncated},
		{"truncated integer", "ff 80", errTruncated},
		{"long integer", "ff 80 80 80 80 80 00", errInteger},
		{"large integer", "ff ff ff ff ff 0f", errInteger},
		{"no value", "41", errTruncated},
		{"short value", "41 05 61", errTruncated},
		{"no name", "40", errTruncated},
		{"long string", "41 7f 82 ff 3f", errLong},
		{"late update", "82 20", errLate},
		{"three updates", "20 20 20", errUpdates},
		{"update above the limit", "3f e2 1f", errTableSize},
		{"padding of zeros", "41 81 00", errPadding},     // "0" and three zero bits
		{"padding of 8 bits", "41 82 07 ff", errPadding}, // "0", then 11 bits of 1
		{"only padding", "41 81 ff", errPadding},
		{"EOS", "41 84 ff ff ff ff", errEOS},
	} {
		t.Run(c.name, func(t *testing.T) {
			var d Decoder
			if _, err := decode(&d, unhex(t, c.block)); !errors.Is(err, c.err) {
				t.Errorf("got %v, want %v", err, c.err)
			}
		})
	}
	var d Decoder
	if _, err := decode(&d, unhex(t, "3f e1 1f 20 82")); err != nil {
		t.Errorf("two updates up to the limit: %v", err)
	}
}

func TestStaticHash(t *testing.T) {
	for i := 1; i <= StaticLen; i++ {
		j := staticIndex(static[i].name)
		if j == 0 || !bytes.Equal(static[j].name, static[i].name) || int(j) > i {
			t.Errorf("%s: index %d", static[i].name, j)
		}
		if k := staticValue(j, static[i].value); len(static[i].value) > 0 && int(k) != i {
			t.Errorf("%s: %s: index %d, want %d", static[i].name, static[i].value, k, i)
		}
	}
	if staticIndex([]byte("x-anything")) != 0 || staticIndex(nil) != 0 || staticValue(2, []byte("PUT")) != 0 {
		t.Error("found what isn't there")
	}
}

func TestHuffman(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for n := range 2000 {
		s := make([]byte, n%100)
		for i := range s {
			s[i] = byte(rnd.Uint32())
			if n%2 == 0 {
				s[i] = "0123456789abcdefghijklmnopqrstuvwxyz-/_."[rnd.IntN(40)]
			}
		}
		enc := appendEncoded(nil, s)
		if want := oracle.AppendHuffmanString(nil, string(s)); !bytes.Equal(enc, want) || len(enc) != encodedLen(s) {
			t.Fatalf("%q: encoded %x, want %x", s, enc, want)
		}
		if got, err := appendDecoded(nil, enc); err != nil || !bytes.Equal(got, s) {
			t.Fatalf("%q: decoded %q, %v", s, got, err)
		}
	}
}

// header sets as a mesh sees them: the same names, some values that repeat.
func headers(rnd *rand.Rand) (out []Field) {
	add := func(n, v string, never bool) {
		out = append(out, Field{Name: []byte(n), Value: []byte(v), Never: never})
	}
	add(":method", []string{"GET", "POST", "PUT"}[rnd.IntN(3)], false)
	add(":scheme", "http", false)
	add(":path", fmt.Sprintf("/cart/%d", rnd.IntN(1000)), false)
	add(":authority", fmt.Sprintf("cart%d.default:8080", rnd.IntN(3)), false)
	add("user-agent", "grpc-go/1.85.0", false)
	add("x-request-id", fmt.Sprint(rnd.Uint64()), false)
	add("authorization", "Bearer abc", false)
	add("cookie", strings.Repeat("x", rnd.IntN(60)), false)
	add("x-never", fmt.Sprint(rnd.IntN(4)), true)
	for i := range rnd.IntN(12) {
		add(fmt.Sprintf("x-field-%d", rnd.IntN(20)), strings.Repeat(string(rune('a'+i)), rnd.IntN(400)), false)
	}
	return out
}

// What the encoder writes, our decoder and the oracle's read alike, over a long
// connection whose table size changes.
func TestEncode(t *testing.T) {
	for _, huffman := range []bool{false, true} {
		rnd := rand.New(rand.NewPCG(3, 4))
		e := Encoder{Huffman: huffman}
		var d Decoder
		od := oracle.NewDecoder(MaxTableSize, nil)
		for n := range 3000 {
			if n%500 == 499 {
				e.SetLimit(rnd.Uint32N(6000))
				if n%1000 == 999 {
					e.SetLimit(0)
					e.SetLimit(MaxTableSize)
				}
			}
			block := e.Begin(nil)
			var want []string
			for _, f := range headers(rnd) {
				block = e.Append(block, f.Name, f.Value, f.Never)
				s := fmt.Sprintf("%s: %s", f.Name, f.Value)
				if f.Never || string(f.Name) == "authorization" || string(f.Name) == "cookie" && len(f.Value) < 20 {
					s += " (never)"
				}
				want = append(want, s)
			}
			status := 100 + rnd.IntN(500)
			block = e.AppendStatus(block, status)
			want = append(want, fmt.Sprintf(":status: %d", status))
			got, err := decode(&d, block)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("block %d: %s", n, diff)
			}
			theirs, err := od.DecodeFull(block)
			if err != nil {
				t.Fatal(err)
			}
			for i, f := range theirs {
				s := fmt.Sprintf("%s: %s", f.Name, f.Value)
				if f.Sensitive {
					s += " (never)"
				}
				if s != want[i] {
					t.Fatalf("oracle: block %d: %s, want %s", n, s, want[i])
				}
			}
			if d.table.size != e.table.size || d.table.size > MaxTableSize || cap(d.table.data) > 3*MaxTableSize {
				t.Fatalf("tables of %d and %d bytes, memory %d", d.table.size, e.table.size, cap(d.table.data))
			}
		}
	}
}

// A field that repeats costs one byte from its third occurrence on.
func TestSecondSighting(t *testing.T) {
	var e Encoder
	name, value := []byte("x-tenant"), []byte("blue")
	var sizes []int
	for range 4 {
		sizes = append(sizes, len(e.Append(e.Begin(nil), name, value, false)))
	}
	if diff := cmp.Diff([]int{15, 15, 1, 1}, sizes); diff != "" {
		t.Error(diff)
	}
}

// FuzzDecode: whatever the oracle's decoder makes of a block, ours makes of it
// too, on a connection that has seen other blocks before.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{"82", "400a637573746f6d2d6b65790d637573746f6d2d686561646572", "3fe11f82", "2082be", "7f0001", "418cf1e3c2e5f23a6ba0ab90f4ff", "4184ffffffff"} {
		f.Add(unhex(f, s), unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, one, two []byte) {
		var d Decoder
		var all []string
		od := oracle.NewDecoder(MaxTableSize, func(f oracle.HeaderField) {
			s := fmt.Sprintf("%s: %s", f.Name, f.Value)
			if f.Sensitive {
				s += " (never)"
			}
			all = append(all, s)
		})
		for _, block := range [][]byte{one, two} {
			all = nil
			got, err := decode(&d, block)
			_, oerr := od.Write(block)
			if oerr == nil {
				oerr = od.Close()
			}
			// Where we are stricter: the number of size updates, integers up to
			// 2^31-1, strings up to 1 MiB.
			if (err == nil) != (oerr == nil) && err != errUpdates && err != errInteger && err != errLong && !updateLate(err, oerr) {
				t.Fatalf("error %v, oracle's %v", err, oerr)
			}
			if err != nil || oerr != nil {
				return
			}
			if diff := cmp.Diff(all, got); diff != "" {
				t.Fatal(diff)
			}
			if d.table.size > MaxTableSize || d.Held() > 4*MaxTableSize {
				t.Fatalf("table of %d, memory %d", d.table.size, d.Held())
			}
		}
	})
}

// updateLate: the oracle takes a size update after the first field as long as
// the table is empty.
func updateLate(err, oerr error) bool { return err == errLate && oerr == nil }

// FuzzRoundTrip: any fields survive both encoders' settings.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("name"), []byte("value"), uint32(100))
	f.Add([]byte(":method"), []byte("GET"), uint32(0))
	f.Add([]byte("cookie"), bytes.Repeat([]byte{0xff}, 3000), uint32(4096))
	f.Fuzz(func(t *testing.T, name, value []byte, limit uint32) {
		if len(name)+len(value) > 64<<10 {
			return
		}
		for _, huffman := range []bool{false, true} {
			e := Encoder{Huffman: huffman}
			var d Decoder
			e.SetLimit(limit)
			for range 4 {
				block := e.Append(e.Begin(nil), name, value, false)
				var r Reader
				r.Reset(&d, block)
				var got Field
				if ok, err := r.Next(&got); !ok || err != nil {
					t.Fatal(ok, err)
				}
				if !bytes.Equal(got.Name, name) || !bytes.Equal(got.Value, value) {
					t.Fatalf("%q: %q", got.Name, got.Value)
				}
			}
		}
	})
}
