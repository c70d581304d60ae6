package sockets

import "sync"

// A pool holds up to poolSize sockets of a family and asks for more when fewer
// than poolLow are left.
const (
	poolSize = 32
	poolLow  = 8
)

// Dialer is a pool of unconnected TCP sockets of the program's namespace, one
// for each connection to the program. It asks for more before it runs dry.
type Dialer struct {
	client *Client
	mu     sync.Mutex // guards pool and closed; never held across an exchange
	pool   map[Family][]int
	closed bool
	refill chan Family
	done   chan struct{} // the refiller has ended
}

func newDialer(c *Client) *Dialer {
	d := &Dialer{client: c, pool: map[Family][]int{}, refill: make(chan Family, 2), done: make(chan struct{})}
	go d.run()
	return d
}

// TryTake returns a pooled socket without waiting; ok is false when the pool is
// empty, and more are then on their way. The caller owns the descriptor.
func (d *Dialer) TryTake(f Family) (fd int, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return -1, false
	}
	pool := d.pool[f]
	if len(pool) > 0 {
		fd, ok = pool[len(pool)-1], true
		d.pool[f] = pool[:len(pool)-1]
	}
	if len(d.pool[f]) < poolLow {
		select {
		case d.refill <- f:
		default: // already asked
		}
	}
	return fd, ok
}

// Take returns a socket, asking the helper for one when the pool is empty.
func (d *Dialer) Take(f Family) (fd int, err error) {
	if fd, ok := d.TryTake(f); ok {
		return fd, nil
	}
	fds, err := d.client.Sockets(Dial, f, 1)
	if err != nil {
		return -1, err
	}
	return fds[0], nil
}

func (d *Dialer) run() {
	defer close(d.done)
	for f := range d.refill {
		d.mu.Lock()
		missing := poolSize - len(d.pool[f])
		d.mu.Unlock()
		if missing <= poolSize-poolLow || !d.client.Has(f) {
			continue
		}
		fds, err := d.client.Sockets(Dial, f, missing)
		if err != nil {
			continue // Take meets the same error and reports it
		}
		d.mu.Lock()
		if d.closed {
			closeAll(fds)
		} else {
			d.pool[f] = append(d.pool[f], fds...)
		}
		d.mu.Unlock()
	}
}

func (d *Dialer) close() {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return
	}
	d.closed = true
	for f, fds := range d.pool {
		closeAll(fds)
		delete(d.pool, f)
	}
	close(d.refill)
	d.mu.Unlock()
	<-d.done
}
