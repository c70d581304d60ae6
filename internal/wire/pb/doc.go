// Package pb reads and writes protobuf's wire format strictly: one singular
// field once, strings in UTF-8, every length and count bounded by the caller,
// and each error with the path of the field it is about. Unknown fields are
// skipped, so that an older program understands a newer one.
//
// In go bytes from outside or plain values, out come fields or bytes. The
// codecs of internal/view and internal/wire/control are written with it; it
// knows no message itself.
//
// Source: the Protocol Buffers encoding reference and, for tags, varints and
// length-delimited values, google.golang.org/protobuf/encoding/protowire.
package pb
