package l7http

import (
	"strconv"

	"tulle.dev/tulle/internal/proxy/limit"
	"tulle.dev/tulle/internal/wire/extauthz"
	"tulle.dev/tulle/internal/wire/h1"
	"tulle.dev/tulle/internal/wire/ratelimit"
)

// This file is how another program counts requests (Envoy's rate limit protocol) and
// what becomes of a request then; ask.go is how it is asked.

var uncounted = &Failure{503, "http_request_denied", "Whoever counts requests did not answer.", false}

// counted is the gate of those who count requests. They are asked one after the
// other, when the proxy's own limits allow the request.
func (x *Exchange) counted() *Failure {
	s := x.limitSet()
	if s == nil {
		return nil
	}
	for list := s.Services(); x.asking < len(list); x.asking++ {
		l := list[x.asking]
		if x.quota == nil && !x.unasked {
			subject := x.subject()
			about := l.Descriptors(&subject, x.Peer().Addr())
			switch {
			case len(about) == 0:
				continue
			case x.worker.asks < maxAsks && x.worker.Asked != nil && l.Policy.Service.Destination != "":
				x.ask = newLimitAsk(x, l, about)
				return Later
			}
			x.unasked = true
		}
		r, silent := x.quota, x.unasked
		x.quota, x.unasked = nil, false
		switch {
		case silent:
			l.Count.Unanswered.Add(1)
			if l.Policy.Service.Closed {
				x.detail = l.Policy.Name
				x.Blame(l.Policy.Name)
				return uncounted
			}
		case r.Code == ratelimit.OverLimit:
			l.Count.Refused.Add(1)
			return x.overQuota(l, r)
		default:
			l.Count.Allowed.Add(1)
			x.Request.Fields = changed(x.Request.Fields, additions(nil, r.Request))
			x.adds = additions(x.adds, r.Response)
		}
	}
	return nil
}

// overQuota is the answer to a request that is one too many.
func (x *Exchange) overQuota(l *limit.Service, r *ratelimit.Response) *Failure {
	x.detail = l.Policy.Name
	x.Blame(l.Policy.Name)
	var worst *ratelimit.Status
	for i := range r.Statuses {
		if s := &r.Statuses[i]; s.Code == ratelimit.OverLimit && (worst == nil || s.Reset > worst.Reset) {
			worst = s
		}
	}
	if worst != nil {
		if worst.Reset > 0 {
			x.extra(nameRetryAfter, strconv.AppendInt(nil, seconds(worst.Reset), 10))
		}
		if worst.Per > 0 {
			quota := strconv.AppendUint(nil, uint64(worst.Requests), 10)
			n := len(quota)
			quota = append(append(append(quota, ", "...), quota[:n]...), ";w="...)
			x.extra(nameLimit, strconv.AppendInt(quota, seconds(worst.Per), 10))
			x.extra(nameRemaining, strconv.AppendUint(nil, uint64(worst.Left), 10))
			x.extra(nameReset, strconv.AppendInt(nil, seconds(worst.Reset), 10))
		}
		if x.grpc() && worst.Reset > 0 {
			x.extra(namePushback, strconv.AppendInt(nil, worst.Reset.Milliseconds(), 10))
		}
	}
	said := additions(nil, r.Response)
	for i := range said { // a service may say in its own words what is above
		said[i].Action = extauthz.Set
	}
	kept := said[:0]
	for _, c := range said {
		if name := []byte(c.Name); !sameName(name, nameProxyStatus) && h1.NameOf(name) != h1.Date && h1.NameOf(name) != h1.ContentType {
			kept = append(kept, c)
		}
	}
	x.Extra = changed(x.Extra, kept)
	if len(r.Body) == 0 || x.grpc() {
		return tooMany
	}
	return &Failure{tooMany.Status, tooMany.Error, string(r.Body), false}
}

// additions are fields to add. What may not be written is left out later.
func additions(to []extauthz.Change, fields []ratelimit.Header) []extauthz.Change {
	for i := range fields {
		to = append(to, extauthz.Change{Header: extauthz.Header{Name: fields[i].Name, Value: fields[i].Value}})
	}
	return to
}

// newLimitAsk asks one of those who count.
func newLimitAsk(x *Exchange, l *limit.Service, about []ratelimit.Descriptor) *ask {
	s := l.Policy.Service
	a := beginAsk(x, s.Timeout)
	a.limit, a.router, a.grpc = l, x.worker.askedBy(l), true
	q := ratelimit.Request{Domain: s.Domain, Descriptors: about}
	a.call(s.Destination, ratelimit.Method, q.Append(make([]byte, 5, 256)))
	a.send()
	return a
}

// askedBy leads to a service.
func (w *Worker) askedBy(l *limit.Service) Router {
	r := w.limitRouters[l]
	if r == nil {
		if w.limitRouters == nil || len(w.limitRouters) >= maxLimitSets {
			w.limitRouters = make(map[*limit.Service]Router)
		}
		r = w.Asked(l.Policy.Service.Destination)
		w.limitRouters[l] = r
	}
	return r
}

// judgeLimit reads the answer; nil is none.
func (a *ask) judgeLimit() *ratelimit.Response {
	b, ok := a.message()
	if !ok {
		return nil
	}
	r, err := ratelimit.ParseAnswer(b)
	if err != nil || r.Code == ratelimit.Unknown {
		return nil
	}
	return r
}

func (a *ask) endLimit(r *ratelimit.Response) {
	if a.over {
		return
	}
	a.close()
	a.goOn(func(x *Exchange) { x.quota, x.unasked = r, r == nil })
}
