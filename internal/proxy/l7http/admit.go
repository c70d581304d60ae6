package l7http

// This file is what a request passes between its route and its first endpoint.

// The gates, in the order in which they are passed. Each may let the request
// pass (nil), answer in the endpoint's place, or return Later and go on by
// itself: with x.Resume's function, or with x.pause and x.admit.
const (
	gateRouted   uint8 = iota + 1 // it has a route
	gateGuard                     // who is it, and may the caller?
	gateDeadline                  // is there still time?
	gateLimit                     // are there too many?
	gateCount                     // and does another program think so?
	gateFault                     // is it to fail on purpose?
	gateFilter                    // what the route does to it
	gateProgram                   // can the program do it?
	gateRoom                      // do the destination's limits allow it?
	gates        = iota
)

// admit passes the gates that are left, and connects.
func (x *Exchange) admit() {
	for x.gate < gates {
		x.gate++
		switch f := x.pass(x.gate); f {
		case nil:
		case Later:
			return
		default:
			x.Fail(f)
			return
		}
	}
	x.connect()
}

// pass is what each gate does.
func (x *Exchange) pass(gate uint8) *Failure {
	switch gate {
	case gateGuard:
		f := x.authorised()
		if f == Later {
			x.gate-- // it is asked again when more is known
		}
		return f
	case gateDeadline:
		return x.overdue()
	case gateLimit:
		return x.limited()
	case gateCount:
		f := x.counted()
		if f == Later {
			x.gate-- // there may be several to ask
		}
		return f
	case gateFault:
		return x.spoil()
	case gateFilter:
		return x.filter()
	case gateProgram:
		return x.enter()
	case gateRoom:
		return x.room()
	}
	return nil
}
