//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/net/http2/hpack"
	"golang.org/x/sys/unix"
)

// What this end knows of HTTP/2 (RFC 9113 sections 4.1 and 6).
const (
	h2Preface   = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	h2HeadBytes = 9

	h2Data, h2Headers, h2Reset, h2Settings, h2Ping, h2GoAway, h2Update = 0, 1, 3, 4, 6, 7, 8

	h2EndStream, h2Ack, h2EndHeaders, h2Padded, h2Priority = 1, 1, 4, 8, 32
)

// paced2 is one HTTP/2 connection of the paced load: any number of requests in
// flight, each a stream.
type paced2 struct {
	fd      int
	block   []byte // the request's head, all of it in HPACK's table by now
	next    uint32 // the next stream's identifier
	due     map[uint32]time.Duration
	decoder *hpack.Decoder
	status  string
	got     []byte
	out     []byte
}

func frame(b []byte, kind, flags byte, stream uint32, payload []byte) []byte {
	b = append(b, byte(len(payload)>>16), byte(len(payload)>>8), byte(len(payload)), kind, flags)
	b = binary.BigEndian.AppendUint32(b, stream)
	return append(b, payload...)
}

// connect2 opens a connection and makes one request.
func connect2(target string) (*paced2, error) {
	fd, err := connect(target)
	if err != nil {
		return nil, err
	}
	c := &paced2{fd: fd, next: 1, due: map[uint32]time.Duration{}}
	c.decoder = hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		if f.Name == ":status" {
			c.status = f.Value
		}
	})
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	head := func() []byte {
		block.Reset()
		for _, f := range []hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: target}, {Name: ":path", Value: "/"}} {
			encoder.WriteField(f)
		}
		return bytes.Clone(block.Bytes())
	}
	first := head()
	c.block = head()
	b := frame([]byte(h2Preface), h2Settings, 0, 0, nil)
	// The connection's window is never the limit: 2^31-1 in all.
	b = frame(b, h2Update, 0, 0, binary.BigEndian.AppendUint32(nil, 1<<31-1-65535))
	b = frame(b, h2Headers, h2EndStream|h2EndHeaders, c.next, first)
	c.due[c.next] = 0
	c.next += 2
	if _, err := unix.Write(fd, b); err != nil {
		unix.Close(fd)
		return nil, err
	}
	var buf [16 << 10]byte
	for len(c.due) > 0 {
		n, err := unix.Read(fd, buf[:])
		if err == unix.EINTR {
			continue
		}
		if err == nil && n == 0 {
			err = fmt.Errorf("closed")
		}
		if err == nil {
			err = c.take(buf[:n], func(time.Duration) {})
		}
		if err != nil {
			unix.Close(fd)
			return nil, fmt.Errorf("the first request wasn't answered: %w", err)
		}
	}
	return c, nil
}

// send makes a request that was due at due.
func (c *paced2) send(due time.Duration) error {
	c.out = frame(c.out[:0], h2Headers, h2EndStream|h2EndHeaders, c.next, c.block)
	c.due[c.next] = due
	c.next += 2
	_, err := unix.Write(c.fd, c.out)
	return err
}

// take reads what came; answered is called for each answer, which must be 200.
func (c *paced2) take(b []byte, answered func(due time.Duration)) error {
	c.got = append(c.got, b...)
	rest := c.got
	for len(rest) >= h2HeadBytes {
		n := int(rest[0])<<16 | int(rest[1])<<8 | int(rest[2])
		if len(rest) < h2HeadBytes+n {
			break
		}
		kind, flags, stream := rest[3], rest[4], binary.BigEndian.Uint32(rest[5:])
		payload := rest[h2HeadBytes : h2HeadBytes+n]
		rest = rest[h2HeadBytes+n:]
		if err := c.frame(kind, flags, stream, payload); err != nil {
			return err
		}
		if (kind == h2Headers || kind == h2Data) && flags&h2EndStream != 0 {
			due, ok := c.due[stream]
			if !ok {
				return fmt.Errorf("an answer to stream %d, which is not open", stream)
			}
			delete(c.due, stream)
			answered(due)
		}
	}
	c.got = append(c.got[:0], rest...)
	return nil
}

func (c *paced2) frame(kind, flags byte, stream uint32, payload []byte) error {
	switch kind {
	case h2Settings, h2Ping:
		if flags&h2Ack != 0 {
			return nil
		}
		if kind == h2Settings {
			payload = nil
		}
		_, err := unix.Write(c.fd, frame(nil, kind, h2Ack, 0, payload))
		return err
	case h2Reset:
		return fmt.Errorf("stream %d was reset: %x", stream, payload)
	case h2GoAway:
		return fmt.Errorf("the proxy said GOAWAY: %x", payload)
	case h2Headers:
		if flags&h2EndHeaders == 0 || flags&(h2Padded|h2Priority) != 0 {
			return fmt.Errorf("a head in a form that isn't read here: flags %x", flags)
		}
		c.status = ""
		if _, err := c.decoder.Write(payload); err != nil {
			return err
		}
		if err := c.decoder.Close(); err != nil {
			return err
		}
		if c.status != "200" && c.status != "" { // trailers have none
			return fmt.Errorf("status %s instead of 200", c.status)
		}
	}
	return nil
}
