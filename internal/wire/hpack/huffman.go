package hpack

// The Huffman code of RFC 7541, appendix B, is canonical: codes of one length
// are consecutive in the order of their symbols, and follow those of the
// length before. So the lengths say it all.
const eos = 256

// huffmanLen holds the length in bits of each symbol's code.
var huffmanLen = [257]uint8{
	13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
	28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
	6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
	5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
	13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
	7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
	15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
	6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
	20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
	24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
	22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
	21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
	26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
	19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
	20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
	26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
	30,
}

// huffmanCode is the code of each symbol, right-aligned.
var huffmanCode [257]uint32

// The decoder looks at 8 bits first: more than nine in ten characters of real
// fields have codes that short. Longer codes are found by their length:
// left-aligned in 32 bits, each code of length n lies below longLimit[n].
var (
	short      [256]struct{ symbol, length uint8 } // length 0: a longer code
	longLimit  [31]uint64
	longFirst  [31]uint32 // first code of the length
	longOffset [31]uint16 // its place in longSymbol
	longSymbol [257]uint16
)

const maxHuffmanLen = 30

func init() {
	code, at := uint32(0), uint16(0)
	for n := uint8(1); n <= maxHuffmanLen; n++ {
		code <<= 1
		longFirst[n], longOffset[n] = code, at
		for s, l := range huffmanLen {
			if l != n {
				continue
			}
			huffmanCode[s] = code
			longSymbol[at] = uint16(s)
			at++
			if n <= 8 {
				for rest := range uint32(1) << (8 - n) {
					e := &short[code<<(8-n)|rest]
					e.symbol, e.length = uint8(s), n
				}
			}
			code++
		}
		longLimit[n] = uint64(code) << (32 - n)
	}
}

// appendDecoded appends the string that src encodes.
func appendDecoded(dst, src []byte) ([]byte, error) {
	var acc uint64 // its low bits bits are still to decode
	var bits uint
	for i := 0; ; {
		for ; bits <= 56 && i < len(src); i++ {
			acc = acc<<8 | uint64(src[i])
			bits += 8
		}
		for bits >= 8 {
			e := short[byte(acc>>(bits-8))]
			if e.length == 0 {
				break
			}
			dst = append(dst, e.symbol)
			bits -= uint(e.length)
		}
		if bits < maxHuffmanLen && i < len(src) {
			continue
		}
		// A long code, or the end. Beyond the end all bits are 1, as in EOS,
		// which no valid string completes.
		if bits == 0 {
			return dst, nil
		}
		var w uint32
		if bits >= 32 {
			w = uint32(acc >> (bits - 32))
		} else {
			w = uint32(acc)<<(32-bits) | (1<<(32-bits) - 1)
		}
		n := uint(5)
		for n < maxHuffmanLen && uint64(w) >= longLimit[n] {
			n++
		}
		if n > bits {
			if bits > 7 || acc&(1<<bits-1) != 1<<bits-1 {
				return dst, errPadding
			}
			return dst, nil
		}
		s := longSymbol[uint32(longOffset[n])+w>>(32-n)-longFirst[n]]
		if s == eos {
			return dst, errEOS
		}
		dst = append(dst, byte(s))
		bits -= n
	}
}

// encodedLen is the length in bytes of s when encoded.
func encodedLen(s []byte) int {
	n := 0
	for _, c := range s {
		n += int(huffmanLen[c])
	}
	return (n + 7) / 8
}

// appendEncoded appends s encoded.
func appendEncoded(dst, s []byte) []byte {
	var acc uint64
	var bits uint
	for _, c := range s {
		n := uint(huffmanLen[c])
		acc = acc<<n | uint64(huffmanCode[c])
		bits += n
		for bits >= 8 {
			bits -= 8
			dst = append(dst, byte(acc>>bits))
		}
	}
	if bits > 0 {
		dst = append(dst, byte(acc<<(8-bits))|byte(1<<(8-bits)-1))
	}
	return dst
}
