package l7http

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/balance"
	"tulle.dev/tulle/internal/proxy/dial"
	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/wire/h1"
	"tulle.dev/tulle/internal/wire/pb"
)

const (
	// maxCheckAnswer is how much of the answer to a health check is read at most.
	maxCheckAnswer = 1 << 20
	// maxHealthMessage bounds grpc.health.v1.HealthCheckResponse.
	maxHealthMessage = 64
	// serving is HealthCheckResponse.ServingStatus SERVING.
	serving = 1
)

// check asks an endpoint over HTTP how it is: client and router of an exchange of
// its own, which is in no figures but the endpoint's.
type check struct {
	x       Exchange
	worker  *Worker
	cluster *dial.Cluster
	health  *policy.HealthCheck
	policy  policy.Request
	done    func(healthy bool, why string)

	body     []byte // of the request
	ended    bool   // and all of it is sent
	status   int
	code     string // grpc-status
	answer   []byte
	received int
	over     bool
}

// Check asks the cluster's endpoint over HTTP or gRPC how it is. done is called
// once, on the loop and not from within; why says what is wrong. The function
// that is returned gives the question up. The cluster is the check's own, so that
// nothing of it counts as traffic.
func (w *Worker) Check(cluster *dial.Cluster, h *policy.HealthCheck, done func(healthy bool, why string)) (cancel func()) {
	c := &check{worker: w, cluster: cluster, health: h, done: done}
	c.policy.Timeout = h.Timeout
	c.x.Request.Reset()
	r := &c.x.Request
	r.Minor, r.KeepAlive = 1, true
	host := h.Host
	if host == "" {
		host = cluster.Key
	}
	path := h.Path
	if path == "" {
		path = "/"
	}
	r.Method, r.MethodName = h1.GET, []byte("GET")
	if h.Kind == policy.HealthGRPC {
		path = "/grpc.health.v1.Health/Check"
		r.Method, r.MethodName = h1.POST, []byte("POST")
		c.body = healthRequest(h.Service)
		r.Framing, r.Length, r.TETrailers = h1.Length, int64(len(c.body)), true
		r.Fields = append(r.Fields, h1.Field{Name: []byte("Content-Type"), Value: []byte("application/grpc")})
		c.x.HTTP2 = true
	}
	r.Authority, r.Path = []byte(host), []byte(path)
	r.Target = r.Path
	r.Fields = append(r.Fields, h1.Field{Name: []byte("User-Agent"), Value: []byte("tulle-health-check")})
	w.Loop.Later(func() {
		if !c.over {
			c.x.start(w, c, c)
		}
	})
	return c.cancel
}

// The messages of grpc.health.v1.
type (
	healthQuestion struct{ service string }
	healthAnswer   struct{ status uint32 }
)

func healthQuestionMessage(m *pb.Message, q *healthQuestion) {
	pb.String(m, 1, "service", 1<<10, &q.service)
}

func healthAnswerMessage(m *pb.Message, a *healthAnswer) {
	pb.Number(m, 1, "status", math.MaxUint32, &a.status)
}

// healthRequest is a grpc.health.v1.HealthCheckRequest in its frame.
func healthRequest(service string) []byte {
	b := pb.Append(make([]byte, 5, 16+len(service)), &healthQuestion{service}, healthQuestionMessage)
	binary.BigEndian.PutUint32(b[1:], uint32(len(b)-5))
	return b
}

// Route sends it to the one endpoint.
func (c *check) Route(x *Exchange) *Failure {
	x.Cluster, x.Policy = c.cluster, &c.policy
	x.Series = &meter.Traffic{} // which nobody reads
	x.trail = nil
	return nil
}

// Unrouted is never called.
func (c *check) Unrouted(*Failure) {}

// Interim drops a 1xx.
func (c *check) Interim(*h1.Response) {}

// Response takes the status.
func (c *check) Response(r *h1.Response) {
	c.status = r.Status
	c.noteCode(r.Fields)
}

func (c *check) noteCode(fields []h1.Field) {
	for i := range fields {
		if folds(fields[i].Name, "grpc-status") {
			c.code = string(fields[i].Value)
		}
	}
}

// Room is always there.
func (c *check) Room() bool { return true }

// Body takes some of the answer. What comes without end isn't waited for.
func (c *check) Body(p []byte) {
	c.answer = append(c.answer, p[:min(len(p), maxHealthMessage-len(c.answer))]...)
	before := c.received
	if c.received += len(p); c.received > maxCheckAnswer && before <= maxCheckAnswer {
		c.worker.Loop.Later(func() {
			if !c.over {
				c.x.abandon()
				c.judge()
			}
		})
	}
}

// End judges the answer.
func (c *check) End(trailers []h1.Field) {
	c.noteCode(trailers)
	c.judge()
}

func (c *check) judge() {
	h := c.health
	switch {
	case c.x.verdict() == balance.Busy:
		c.end(true, "") // it has much to do: sending it less is balancing's task
	case h.Kind == policy.HealthGRPC:
		c.judgeGRPC()
	case len(h.Statuses) == 0 && c.status >= 200 && c.status < 300 || slices.Contains(h.Statuses, uint16(c.status)):
		c.end(true, "")
	default:
		c.end(false, "status "+strconv.Itoa(c.status))
	}
}

func (c *check) judgeGRPC() {
	switch {
	case c.status != 200:
		c.end(false, "status "+strconv.Itoa(c.status))
	case c.code == "":
		c.end(false, "no grpc-status")
	case c.code != "0":
		c.end(false, fmt.Sprintf("grpc-status %q", c.code))
	case healthStatus(c.answer) == serving:
		c.end(true, "")
	default:
		c.end(false, "not serving")
	}
}

// healthStatus is the status of a grpc.health.v1.HealthCheckResponse in its frame;
// 0 is unknown.
func healthStatus(b []byte) uint32 {
	if len(b) < 5 || b[0] != 0 || int64(binary.BigEndian.Uint32(b[1:])) != int64(len(b)-5) {
		return 0
	}
	a, err := pb.Decode(b[5:], healthAnswerMessage)
	if err != nil {
		return 0
	}
	return a.status
}

// Reply is the end of a question that didn't get through.
func (c *check) Reply(f *Failure) { c.end(false, f.reason()) }

// Cut is the end of one whose answer broke off.
func (c *check) Cut() { c.end(false, "http_response_incomplete") }

// Pull sends the body.
func (c *check) Pull() {
	if up := c.x.up; up != nil && !c.ended && len(c.body) > 0 && up.Room() {
		c.ended = true
		up.Body(c.body)
		if c.x.up == up {
			up.End(nil)
		}
	}
}

// Rewind lets the body be sent once more.
func (c *check) Rewind() bool {
	c.ended = false
	return true
}

// Whole reports false: no copies are made of a check.
func (c *check) Whole() bool { return false }

// Replay is never called.
func (c *check) Replay(Upstream) {}

// Tunnel is never called: nothing offers to upgrade.
func (c *check) Tunnel(up *loop.Conn) {
	up.Close()
	c.end(false, "status 101")
}

// watchStall does nothing: the check's own time bounds it.
func (c *check) watchStall() {}

func (c *check) end(healthy bool, why string) {
	if c.over {
		return
	}
	c.over = true
	c.worker.Loop.Later(func() { c.done(healthy, why) })
	c.x.reset()
}

func (c *check) cancel() {
	if c.over {
		return
	}
	c.over = true
	if c.x.worker != nil {
		c.x.abandon()
		c.x.reset()
	}
}
