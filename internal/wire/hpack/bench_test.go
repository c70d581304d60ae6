package hpack

import (
	"fmt"
	"testing"

	oracle "golang.org/x/net/http2/hpack"
)

// request is what a gRPC or REST client sends through a mesh; id is the value
// that never repeats.
func request(id int) [][2]string {
	return [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", "/shop.Cart/Add"}, {":authority", "cart.default:8080"},
		{"content-type", "application/grpc"}, {"user-agent", "grpc-go/1.85.0"}, {"te", "trailers"},
		{"grpc-timeout", fmt.Sprintf("%dm", 900+id%100)}, {"x-request-id", fmt.Sprintf("%032x", id)},
	}
}

// blocks encodes many requests with the given encoder.
func blocks(enc func(dst []byte, fields [][2]string) []byte) (out [][]byte) {
	for i := range 1000 {
		out = append(out, enc(nil, request(i)))
	}
	return out
}

func ourBlocks(huffman bool) [][]byte {
	e := Encoder{Huffman: huffman}
	return blocks(func(dst []byte, fields [][2]string) []byte {
		dst = e.Begin(dst)
		for _, f := range fields {
			dst = e.Append(dst, []byte(f[0]), []byte(f[1]), false)
		}
		return dst
	})
}

// Blocks are decoded in the order in which they were encoded; where the
// benchmark starts again, so does the connection, outside its time.
func BenchmarkDecode(b *testing.B) {
	for _, huffman := range []bool{false, true} {
		in := ourBlocks(huffman)
		b.Run(fmt.Sprintf("ours/huffman=%t", huffman), func(b *testing.B) {
			var d Decoder
			var r Reader
			var f Field
			b.ReportAllocs()
			for i := range b.N {
				if i%len(in) == 0 {
					d.table.setMax(0)
					d.table.setMax(MaxTableSize)
					d.ready = true
				}
				r.Reset(&d, in[i%len(in)])
				for {
					ok, err := r.Next(&f)
					if err != nil {
						b.Fatal(err)
					}
					if !ok {
						break
					}
				}
			}
		})
		b.Run(fmt.Sprintf("xnet/huffman=%t", huffman), func(b *testing.B) {
			var od *oracle.Decoder
			n := 0
			b.ReportAllocs()
			for i := range b.N {
				if i%len(in) == 0 {
					od = oracle.NewDecoder(MaxTableSize, func(oracle.HeaderField) { n++ })
				}
				if _, err := od.Write(in[i%len(in)]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	var fields [1000][]Field
	var theirs [1000][]oracle.HeaderField
	for i := range fields {
		for _, f := range request(i) {
			fields[i] = append(fields[i], Field{Name: []byte(f[0]), Value: []byte(f[1])})
			theirs[i] = append(theirs[i], oracle.HeaderField{Name: f[0], Value: f[1]})
		}
	}
	b.Run("ours", func(b *testing.B) {
		var e Encoder
		var dst []byte
		b.ReportAllocs()
		for i := range b.N {
			dst = e.Begin(dst[:0])
			for _, f := range fields[i%1000] {
				dst = e.Append(dst, f.Name, f.Value, false)
			}
		}
		b.ReportMetric(float64(len(dst)), "bytes/block")
	})
	b.Run("xnet", func(b *testing.B) {
		var w writer
		e := oracle.NewEncoder(&w)
		b.ReportAllocs()
		for i := range b.N {
			w = w[:0]
			for _, f := range theirs[i%1000] {
				if err := e.WriteField(f); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(float64(len(w)), "bytes/block")
	})
}

type writer []byte

func (w *writer) Write(p []byte) (int, error) { *w = append(*w, p...); return len(p), nil }

func TestNoAllocations(t *testing.T) {
	in := ourBlocks(false)
	var d Decoder
	var r Reader
	var f Field
	var e Encoder
	var dst []byte
	i := 0
	step := func() {
		r.Reset(&d, in[i])
		dst = e.Begin(dst[:0])
		for {
			ok, err := r.Next(&f)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			dst = e.Append(dst, f.Name, f.Value, f.Never)
		}
		i++
	}
	for range 400 {
		step()
	}
	if n := testing.AllocsPerRun(500, step); n != 0 {
		t.Errorf("%v allocations a request", n)
	}
}
