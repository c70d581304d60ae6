package names

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// askTimeout bounds one try at one resolver, allTimeout a whole query.
	askTimeout = 2 * time.Second
	allTimeout = 5 * time.Second
	// tries is how often the list of resolvers is gone through (resolv.conf(5),
	// "attempts").
	tries = 2
	// maxServers is how many resolvers are used (resolv.conf(5): 3).
	maxServers = 3
	// maxResolv bounds the file, in bytes.
	maxResolv = 64 << 10
	// reread is how often the file is looked at again.
	reread = 5 * time.Second
	// headerSize is a DNS message's header.
	headerSize = 12
)

// upstream is the machine's own resolvers. Queries go to them as they came.
type upstream struct {
	path string

	mu      sync.Mutex
	servers []netip.AddrPort
	own     []netip.AddrPort // this proxy's sockets: never asked
	looked  time.Time
	changed time.Time
	closed  bool
	cancels map[*context.CancelFunc]struct{}
}

// avoid keeps a socket of this server from being asked, should resolv.conf name
// it.
func (u *upstream) avoid(a net.Addr) {
	if addr, err := netip.ParseAddrPort(a.String()); err == nil {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.own = append(u.own, addr)
	}
}

// close ends all queries.
func (u *upstream) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	for cancel := range u.cancels {
		(*cancel)()
	}
}

// begin makes a query's context.
func (u *upstream) begin() (context.Context, func(), error) {
	ctx, cancel := context.WithTimeout(context.Background(), allTimeout)
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		cancel()
		return nil, nil, net.ErrClosed
	}
	if u.cancels == nil {
		u.cancels = make(map[*context.CancelFunc]struct{})
	}
	u.cancels[&cancel] = struct{}{}
	return ctx, func() {
		cancel()
		u.mu.Lock()
		defer u.mu.Unlock()
		delete(u.cancels, &cancel)
	}, nil
}

// list returns the resolvers, reading the file again when it has changed.
func (u *upstream) list() []netip.AddrPort {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	if now.Sub(u.looked) < reread && !u.looked.IsZero() {
		return u.servers
	}
	u.looked = now
	info, err := os.Stat(u.path)
	if err != nil || info.ModTime().Equal(u.changed) {
		return u.servers
	}
	f, err := os.Open(u.path)
	if err != nil {
		return u.servers
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxResolv))
	if err != nil {
		return u.servers
	}
	u.changed = info.ModTime()
	u.servers = slices.DeleteFunc(nameservers(b), func(a netip.AddrPort) bool { return slices.Contains(u.own, a) })
	return u.servers
}

// nameservers reads the servers of a resolv.conf (resolv.conf(5)).
func nameservers(b []byte) []netip.AddrPort {
	var list []netip.AddrPort
	scan := bufio.NewScanner(bytes.NewReader(b))
	for scan.Scan() && len(list) < maxServers {
		line := scan.Text()
		if i := strings.IndexAny(line, "#;"); i == 0 {
			continue
		}
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		// "127.0.0.1:5353" is no standard form, but some resolvers read it.
		if a, err := netip.ParseAddrPort(f[1]); err == nil {
			list = append(list, a)
		} else if a, err := netip.ParseAddr(f[1]); err == nil {
			list = append(list, netip.AddrPortFrom(a, 53))
		}
	}
	return list
}

// ask sends a query to the resolvers in turn and returns the first answer, with
// the query's own id.
func (u *upstream) ask(network string, query []byte) ([]byte, error) {
	ctx, end, err := u.begin()
	if err != nil {
		return nil, err
	}
	defer end()
	servers := u.list()
	if len(servers) == 0 {
		return nil, fmt.Errorf("no resolver in %s", u.path)
	}
	var errs []error
	for range tries {
		for _, server := range servers {
			b, err := u.askOne(ctx, network, server, query)
			if err == nil {
				return b, nil
			}
			errs = append(errs, err)
			if ctx.Err() != nil {
				return nil, errors.Join(errs...)
			}
		}
	}
	return nil, errors.Join(errs...)
}

// askOne asks one resolver. Each query has a socket, and so a port, and an id of
// its own: what makes forged answers hard (RFC 5452).
func (u *upstream) askOne(ctx context.Context, network string, server netip.AddrPort, query []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, network, server.String())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	sent := slices.Clone(query)
	rand.Read(sent[:2]) // never fails (crypto/rand)
	if network == "tcp" {
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(sent))), sent...)); err != nil {
			return nil, err
		}
		return readTCP(c, sent, query)
	}
	if _, err := c.Write(sent); err != nil {
		return nil, err
	}
	buf := buffers.Get().(*[maxTCP]byte)
	defer buffers.Put(buf)
	for {
		n, err := c.Read(buf[:])
		if err != nil {
			return nil, err
		}
		if b := restore(buf[:n], sent, query); b != nil {
			return slices.Clone(b), nil
		}
		// Not the answer: go on waiting, as RFC 5452 says (section 9.1).
	}
}

func readTCP(c net.Conn, sent, query []byte) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(c, length[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(c, b); err != nil {
		return nil, err
	}
	if b = restore(b, sent, query); b == nil {
		return nil, errors.New("the resolver's answer is to another query")
	}
	return b, nil
}

// buffers are for answers in datagrams; they can be as large as a message.
var buffers = sync.Pool{New: func() any { return new([maxTCP]byte) }}

// restore checks that b answers what was sent, by its id and question, and gives
// it the id of the query that the program made.
func restore(b, sent, query []byte) []byte {
	if len(b) < headerSize || !bytes.Equal(b[:2], sent[:2]) || b[2]&0x80 == 0 {
		return nil
	}
	q := questionBytes(sent)
	if a := questionBytes(b); a != nil && !bytes.EqualFold(a, q) {
		return nil
	}
	copy(b[:2], query[:2])
	return b
}

// questionBytes returns the only question of a message as it is on the wire, or
// nil when there is none.
func questionBytes(b []byte) []byte {
	if binary.BigEndian.Uint16(b[4:]) != 1 {
		return nil
	}
	for i := headerSize; i < len(b); {
		switch n := int(b[i]); {
		case n == 0:
			if i+5 > len(b) {
				return nil
			}
			return b[headerSize : i+5]
		case n > 63:
			return nil
		default:
			i += 1 + n
		}
	}
	return nil
}
