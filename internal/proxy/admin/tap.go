package admin

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"tulle.dev/tulle/internal/proxy/record"
	"tulle.dev/tulle/internal/wire/h1"
)

const (
	// tapTime is how long a tap lasts that doesn't say.
	tapTime = 10 * time.Minute
	// tapBeat is how often there is an empty line where nothing happens, so that
	// both ends learn that the other one is gone.
	tapBeat = time.Second
)

// tap answers /tap?seconds=N&... with records as they come, a JSON object a line,
// until the time is over, the client is gone or the proxy ends. Lines that only say
// {"missed":N} are about records that there were too many of. The answer that it
// returns, when streamed is false, says why there is no tap.
func (s *Server) tap(c net.Conn, query string) (a answer, streamed bool) {
	v, err := url.ParseQuery(query)
	if err != nil {
		return text(400, "the query can't be read: "+err.Error()+"\n"), false
	}
	filter, err := record.ParseFilter(v)
	if err != nil {
		return text(400, err.Error()+"\n"), false
	}
	limit := tapTime
	if t := v.Get("seconds"); t != "" {
		n, err := strconv.Atoi(t)
		if err != nil || n < 1 || n > int(record.MaxTime/time.Second) {
			return text(400, fmt.Sprintf("seconds: want a number from 1 to %d\n", int(record.MaxTime/time.Second))), false
		}
		limit = time.Duration(n) * time.Second
	}
	t, err := s.config.Tap(filter)
	if errors.Is(err, record.ErrTooMany) {
		return text(429, err.Error()+"\n"), false
	} else if err != nil {
		return text(503, err.Error()+"\n"), false
	}
	defer t.Close()
	b := h1.AppendStatusLine(nil, 200)
	b = h1.AppendField(b, "Content-Type", "application/x-ndjson")
	b = h1.AppendField(b, "X-Content-Type-Options", "nosniff")
	b = h1.AppendField(b, "Connection", "close")
	if !send(c, append(b, "\r\n"...)) {
		return a, true
	}
	gone := make(chan struct{})
	c.SetReadDeadline(time.Time{})
	s.running.Go(func() { // ends when connection closes c
		defer close(gone)
		c.Read(make([]byte, 1))
	})
	end := time.NewTimer(limit)
	defer end.Stop()
	beat := time.NewTicker(tapBeat)
	defer beat.Stop()
	for {
		ok := true
		select {
		case line := <-t.Lines():
			ok = send(c, line)
		case <-beat.C:
			line := []byte("\n")
			if n := t.Missed(); n > 0 {
				line = fmt.Appendf(nil, "{\"missed\":%d}\n", n)
			}
			ok = send(c, line)
		case <-end.C:
			ok = false
		case <-t.Over():
			ok = false
		case <-gone:
			ok = false
		}
		if !ok {
			if n := t.Missed(); n > 0 {
				send(c, fmt.Appendf(nil, "{\"missed\":%d}\n", n))
			}
			return a, true
		}
	}
}

func isTap(path []byte) bool {
	p, _, _ := strings.Cut(string(path), "?")
	return p == "/tap"
}

func send(c net.Conn, b []byte) bool {
	c.SetWriteDeadline(time.Now().Add(headTimeout))
	_, err := c.Write(b)
	return err == nil
}
