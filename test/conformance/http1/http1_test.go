package http1

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/internal/view"
)

const testdata = "../../../internal/wire/h1/testdata/"

// withVia is the head with the line that the proxy adds.
func withVia(head, version string) string {
	return strings.TrimSuffix(head, "\r\n") + "Via: " + version + " tulle\r\n\r\n"
}

// unintroduced is the head without what an edge says of the client, each line of
// which must be there once. host is what the client asked for.
func unintroduced(head, host string) (string, error) {
	lines := []string{"X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: http"}
	if host != "" {
		lines = append(lines, "X-Forwarded-Host: "+host)
	}
	for _, line := range lines {
		if strings.Count(head, "\r\n"+line+"\r\n") != 1 {
			return "", fmt.Errorf("want one line %q in %q", line, head)
		}
		head = strings.Replace(head, "\r\n"+line, "", 1)
	}
	return head, nil
}

// TestRequests sends each request through the proxy.
func TestRequests(t *testing.T) {
	o := startOrigin(t)
	sendAll(t, o, start(t, o), 1)
}

// TestRequestsThroughPair sends each through two sidecars, whichever protocol
// these have between them: what leaves the second is the same.
func TestRequestsThroughPair(t *testing.T) {
	for name, peers := range map[string]view.PeerProtocol{"HTTP1": view.PeerHTTP1, "HTTP2": view.PeerHTTP2} {
		t.Run(name, func(t *testing.T) {
			o := startOrigin(t)
			sendAll(t, o, pair(t, o, peers), 2)
		})
	}
}

func sendAll(t *testing.T, o *origin, addr string, hops int) {
	for _, file := range []string{"request.txt", "chunked.txt"} {
		for _, v := range readVectors(t, testdata+file) {
			switch {
			case strings.HasPrefix(string(v.in), "PRI * HTTP/2.0"):
				continue // the listener speaks that too
			case hops > 1 && strings.Contains(string(v.in), "Max-Forwards"):
				continue // each hop counts down
			case hops > 1:
				// What HTTP/2 doesn't carry through: several lines of Cookie (RFC
				// 9113, 8.2.3) and the case of trailer names.
				v.head = strings.Replace(v.head, "\r\nCookie: c=d", "; c=d", 1)
				for i, f := range v.trailers {
					v.trailers[i] = strings.ToLower(f)
				}
			}
			o.set(ok)
			if err := checkRequest(t, o, addr, v, hops); err != nil {
				t.Errorf("%s: %s\n  %.300q\n  %v", v.where, v.title, v.in, err)
			}
		}
	}
}

func checkRequest(t *testing.T, o *origin, addr string, v vector, hops int) error {
	for len(o.requests) > 0 {
		<-o.requests
	}
	c, r := exchange(t, addr, v.in)
	defer c.Close()
	if v.cut {
		c.CloseWrite()
	}
	line, _, _ := strings.Cut(string(v.in), "\r\n")
	method, _, _ := strings.Cut(strings.TrimLeft(string(v.in), "\r\n"), " ")
	refused := v.reject > 0 // the connection ends with it
	switch {
	case v.tunnel:
		v.reject = 501 // an edge is no proxy to its clients
	case strings.Contains(line, " https://") && hops > 1:
		v.reject = 501 // a client's own proxy says no 421 (RFC 9110, 15.5.20)
	case strings.Contains(line, " https://"):
		v.reject = 421 // an https URI in the clear (RFC 9110, 7.4)
	}
	if v.reject > 0 {
		answer, err := readMessage(r, method)
		if err != nil || answer.status() != v.reject {
			return fmt.Errorf("answered %q (%v), want %d", answer.head, err, v.reject)
		}
		if !strings.Contains(strings.ToLower(answer.field("Connection")), "close") && refused {
			return fmt.Errorf("the refusal keeps the connection: %q", answer.head)
		}
		if refused {
			if n, err := io.Copy(io.Discard, r); n > 0 || err != nil {
				return fmt.Errorf("after the refusal: %d bytes, %v", n, err)
			}
		}
		select {
		case m := <-o.requests:
			if m.complete {
				return fmt.Errorf("a request got through: %q %q", m.head, m.body)
			}
		default:
		}
		return nil
	}
	if v.cut {
		// The client hears that its request was no good, if it still listens, and
		// the origin may see the beginning of it, never a whole.
		answer, err := readMessage(r, method)
		if err != nil || answer.status() != 400 {
			return fmt.Errorf("a cut request was answered %q, %v", answer.head, err)
		}
		if m := o.got(10 * time.Millisecond); m != nil && m.complete {
			return fmt.Errorf("a cut request was made whole: %q", m.body)
		}
		return nil
	}
	m := o.got(wait)
	if m == nil {
		answer, err := readMessage(r, "GET")
		return fmt.Errorf("nothing reached the origin; answered %q %v", answer.head, err)
	}
	version := "1.1" // Via says which it was (RFC 9110, 7.6.3)
	if _, v, ok := strings.Cut(line, " HTTP/"); ok {
		version = v
	}
	if hops == 1 {
		// An edge is nobody's proxy: credentials for one go no further
		// (RFC 9110, 11.7.2).
		v.head = dropLine(v.head, "Proxy-Authorization: ")
		_, host, _ := strings.Cut(v.head, "\r\nHost: ")
		host, _, _ = strings.Cut(host, "\r\n")
		var err error
		if m.head, err = unintroduced(m.head, host); err != nil {
			return err
		}
	}
	if hops > 1 { // the program is told who calls, once and by its own proxy
		const who = "tulle-client-identity: "
		if strings.Count(strings.ToLower(m.head), who) != 1 || m.field(who[:len(who)-2]) != "spiffe://mesh.local/ns/default/sa/web" {
			return fmt.Errorf("who calls isn't told in %q", m.head)
		}
		m.head = dropLine(m.head, who)
	}
	if strings.Contains(v.head, "\r\nHost: \r\n") {
		if m.field("Host") == "" {
			return fmt.Errorf("forwarded without a host: %q", m.head)
		}
		v.head = m.head
	} else if want := withVia(v.head, version); hops == 1 && m.head != want {
		return fmt.Errorf("forwarded %q\n  want      %q", m.head, want)
	} else if got := strings.Replace(dropLine(m.head, "Via: "), "\r\nCookie: c=d", "; c=d", 1); hops > 1 && got != dropLine(v.head, "Via: ") {
		return fmt.Errorf("forwarded %q\n  want      %q", got, v.head)
	}
	if m.body != v.body {
		return fmt.Errorf("content %q, want %q", m.body, v.body)
	}
	if hops > 1 {
		for i, f := range m.trailers {
			m.trailers[i] = strings.ToLower(f)
		}
	}
	if !slices.Equal(m.trailers, v.trailers) {
		return fmt.Errorf("trailers %q, want %q", m.trailers, v.trailers)
	}
	answer, err := readMessage(r, method)
	if err != nil || answer.status() != 200 {
		return fmt.Errorf("answered %q, %v", answer.head, err)
	}
	if closes := strings.Contains(answer.field("Connection"), "close"); closes != v.closes {
		return fmt.Errorf("closes: %v, want %v: %q", closes, v.closes, answer.head)
	}
	if answer.field("Date") == "" || answer.field("Via") == "" {
		return fmt.Errorf("an answer without Date or Via: %q", answer.head)
	}
	if v.closes {
		if n, err := io.Copy(io.Discard, r); n > 0 || err != nil {
			return fmt.Errorf("after the last answer: %d bytes, %v", n, err)
		}
	}
	return nil
}

// TestResponses has the origin answer with each response.
func TestResponses(t *testing.T) {
	o := startOrigin(t)
	addr := start(t, o)
	const loose = false
	for _, v := range readVectors(t, testdata+"response.txt") {
		if err := checkResponse(t, o, addr, v, loose); err != nil {
			t.Errorf("%s: %s (%s)\n  %.300q\n  %v", v.where, v.title, v.asked, v.in, err)
		}
	}
}

var storyID = regexp.MustCompile("^[0-9a-f]{16}$")

// checkResponse; loose is for a way over HTTP/2, which knows no reason phrases
// and no case of names where the proxies don't tell each other.
func checkResponse(t *testing.T, o *origin, addr string, v vector, loose bool) error {
	method, version := "GET", "1.1"
	fields := "Host: a\r\n"
	for word := range strings.SplitSeq(v.asked, "; ") {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "method":
			method = value
		case "minor":
			version = "1.0"
			if strings.Contains(v.head, "keep-alive") {
				fields += "Connection: keep-alive\r\n"
			}
		case "upgrade":
			fields += "Upgrade: " + value + "\r\nConnection: upgrade\r\n"
		case "trailers":
			fields += "TE: trailers\r\n"
		case "close":
			fields += "Connection: close\r\n"
		}
	}
	if method == "CONNECT" {
		return nil // an edge doesn't send any
	}
	// An origin that means to go on must leave the connection open for the
	// proxy to go on with; one whose answer ends with it must not.
	closes := v.closes || v.cut || v.reject > 0 || v.interim || len(v.next) > 0
	o.set(func(*message) (string, bool) { return string(v.in), closes })
	for len(o.requests) > 0 {
		<-o.requests
	}
	c, r := exchange(t, addr, []byte(method+" / HTTP/"+version+"\r\n"+fields+"\r\n"))
	defer c.Close()
	answer, err := readMessage(r, method)
	if v.reject > 0 && answer.status() == 200 {
		// The head was sent on before the body went wrong: the client must see
		// that it isn't whole.
		if answer.complete || err == nil {
			return fmt.Errorf("answered %q, whole", answer.head)
		}
		return nil
	}
	if v.reject > 0 {
		if err != nil || answer.status() != v.reject {
			return fmt.Errorf("answered %q (%v), want %d", answer.head, err, v.reject)
		}
		if !strings.HasPrefix(answer.field("Proxy-Status"), "tulle; error=") {
			return fmt.Errorf("no Proxy-Status in %q", answer.head)
		}
		return usable(o, c, r, answer)
	}
	want := v.head
	if n := strings.Count(strings.ToLower(answer.head), "\r\ndate: "); answer.status() >= 200 && n != 1 {
		return fmt.Errorf("%d Date fields in %q", n, answer.head)
	}
	got := dropLine(answer.head, "Date: ")
	for _, version := range []string{"1.0", "1.1", "1.5", "2"} {
		got = dropLine(got, "Via: "+version+" tulle")
	}
	// The story of a failure can be asked for, and of an answer that was slow.
	if id := answer.field("tulle-id"); storyID.MatchString(id) {
		got = dropLine(got, "tulle-id: ")
	} else if answer.status() >= 500 {
		return fmt.Errorf("no id in %q", answer.head)
	}
	want = dropLine(want, "Date: ")
	if strings.HasPrefix(v.asked, "minor=0") && strings.Contains(fields, "keep-alive") == false {
		want = strings.Replace(want, "Connection: keep-alive\r\n", "Connection: close\r\n", 1)
	}
	if loose {
		got, want = plain(got), plain(want)
	}
	if got != want {
		return fmt.Errorf("sent on %q\n  want    %q", got, want)
	}
	if !strings.Contains(answer.head, "tulle\r\n") {
		return fmt.Errorf("no Via in %q", answer.head)
	}
	switch {
	case v.interim:
		final, err := readMessage(r, method)
		if err != nil || final.status() != 502 {
			return fmt.Errorf("after an interim response and the end: %q %v", final.head, err)
		}
		return nil
	case v.tunnel:
		rest := make([]byte, len(v.next))
		if _, err := io.ReadFull(r, rest); err != nil || string(rest) != string(v.next) {
			return fmt.Errorf("through the tunnel: %q %v", rest, err)
		}
		return nil
	case v.cut:
		if answer.complete && answer.framing != "close" || err == nil {
			return fmt.Errorf("a cut answer was made whole: %q", answer.body)
		}
		return nil
	case err != nil:
		return fmt.Errorf("the answer: %v", err)
	}
	if method == "HEAD" {
		v.body = ""
	}
	if answer.body != v.body {
		return fmt.Errorf("content %q, want %q", answer.body, v.body)
	}
	trailers := v.trailers
	if !strings.Contains(v.asked, "trailers") {
		trailers = nil // the client didn't say that it takes them
	}
	if !slices.EqualFunc(answer.trailers, trailers, func(a, b string) bool { return a == b || loose && strings.EqualFold(a, b) }) {
		return fmt.Errorf("trailers %q, want %q", answer.trailers, trailers)
	}
	return usable(o, c, r, answer)
}

// usable checks that after an answer the client's connection works, if it was
// not said to end, and that no byte of the origin's last connection shows up.
func usable(o *origin, c io.Writer, r *bufio.Reader, answer *message) error {
	if strings.Contains(answer.field("Connection"), "close") || answer.framing == "close" {
		if n, err := io.Copy(io.Discard, r); n > 0 || err != nil {
			return fmt.Errorf("after the last answer: %d bytes, %v", n, err)
		}
		return nil
	}
	time.Sleep(2 * time.Millisecond) // what the origin sent too much may arrive
	o.set(ok)
	io.WriteString(c, "GET /again HTTP/1.1\r\nHost: a\r\n\r\n")
	again, err := readMessage(r, "GET")
	if err != nil || again.status() != 200 || again.body != "ok" {
		return fmt.Errorf("the next answer is %q %q, %v", again.head, again.body, err)
	}
	return nil
}

// plain is a head in lower case without its reason phrase.
func plain(head string) string {
	start, rest, _ := strings.Cut(head, "\r\n")
	return strings.ToLower(start[:min(len(start), len("HTTP/1.1 200"))] + "\r\n" + rest)
}

// dropLine takes a line off a head.
func dropLine(head, prefix string) string {
	var out []string
	for l := range strings.SplitSeq(head, "\r\n") {
		if len(l) < len(prefix) || !strings.EqualFold(l[:len(prefix)], prefix) {
			out = append(out, l)
		}
	}
	return strings.Join(out, "\r\n")
}

// TestResponsesThroughPair is TestResponses through two sidecars.
func TestResponsesThroughPair(t *testing.T) {
	for name, peers := range map[string]view.PeerProtocol{"HTTP1": view.PeerHTTP1, "HTTP2": view.PeerHTTP2} {
		t.Run(name, func(t *testing.T) {
			o := startOrigin(t)
			addr := pair(t, o, peers)
			loose := peers == view.PeerHTTP2
			for _, v := range readVectors(t, testdata+"response.txt") {
				if err := checkResponse(t, o, addr, v, loose); err != nil {
					t.Errorf("%s: %s (%s)\n  %.300q\n  %v", v.where, v.title, v.asked, v.in, err)
				}
			}
		})
	}
}
