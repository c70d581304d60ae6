package l7http

import (
	"time"

	"tulle.dev/tulle/internal/wire/h1"
)

// This file is what gRPC adds to HTTP (its "PROTOCOL-HTTP2" document): a call's
// outcome is in a trailer, and a proxy's own failures are told in that form.

// grpc says whether the request is a gRPC call.
func (x *Exchange) grpc() bool { return x.call }

// isGRPC says whether a content type is gRPC's. grpc-web is another protocol,
// which has its trailers in the body.
func isGRPC(v []byte) bool {
	const grpc = "application/grpc"
	return len(v) >= len(grpc) && h1.EqualFold(v[:len(grpc)], grpc) &&
		(len(v) == len(grpc) || v[len(grpc)] == '+' || v[len(grpc)] == ';' || v[len(grpc)] == ' ')
}

// parseTimeout reads up to eight digits and a unit.
func parseTimeout(v []byte) (time.Duration, bool) {
	if len(v) < 2 || len(v) > 9 {
		return 0, false
	}
	var n time.Duration
	for _, c := range v[:len(v)-1] {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + time.Duration(c-'0')
	}
	unit := map[byte]time.Duration{'H': time.Hour, 'M': time.Minute, 'S': time.Second,
		'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond}[v[len(v)-1]]
	if unit == 0 || n > maxTimeout/unit {
		return maxTimeout, unit != 0
	}
	return n * unit, true
}

// maxTimeout is as good as none.
const maxTimeout = 1000 * time.Hour

// The codes of gRPC that are used here.
const (
	grpcOK               = 0
	grpcUnknown          = 2
	grpcDeadlineExceeded = 4
	grpcPermissionDenied = 7
	grpcExhausted        = 8
	grpcUnimplemented    = 12
	grpcInternal         = 13
	grpcUnavailable      = 14
	grpcDataLoss         = 15
	grpcUnauthenticated  = 16
)

// httpOf says as what status a call that ended with a code counts: the server's
// failures as the 5xx that they resemble, all else as what the response said.
func httpOf(code, status int) int {
	switch code {
	case grpcUnknown, grpcInternal, grpcDataLoss:
		return 500
	case grpcUnimplemented:
		return 501
	case grpcUnavailable:
		return 503
	case grpcDeadlineExceeded:
		return 504
	}
	return status
}

// grpcOf is the code that a failure of the proxy's own is told with.
func grpcOf(f *Failure) int {
	if f == NoBackend { // Gateway API, GRPCRouteRule.BackendRefs
		return grpcUnavailable
	}
	switch f.Status {
	case 401:
		return grpcUnauthenticated
	case 403, 405:
		return grpcPermissionDenied
	case 404, 501:
		return grpcUnimplemented
	case 408, 504:
		return grpcDeadlineExceeded
	case 413, 429, 431:
		return grpcExhausted
	case 502, 503:
		return grpcUnavailable
	case 400, 500, 508:
		return grpcInternal
	}
	return grpcUnknown
}

// grpcCode reads grpc-status among fields; ok is false when there is none.
func grpcCode(fields []h1.Field) (code int, ok bool) {
	for i := range fields {
		f := &fields[i]
		if len(f.Name) != len("grpc-status") || !h1.EqualFold(f.Name, "grpc-status") {
			continue
		}
		for _, c := range f.Value {
			if c < '0' || c > '9' || code > 100 {
				return grpcUnknown, true
			}
			code = code*10 + int(c-'0')
		}
		return code, true
	}
	return 0, false
}

// noteStatus notes how the response began.
func (x *Exchange) noteStatus(r *h1.Response) {
	x.status, x.coded = r.Status, false
	x.noteGRPC(r.Fields)
}

// noteGRPC looks for a call's outcome in a section of its response.
func (x *Exchange) noteGRPC(fields []h1.Field) {
	if x.status == 200 && len(fields) > 0 {
		if code, ok := grpcCode(fields); ok {
			x.callCode, x.coded = code, true
			x.status = httpOf(code, x.status)
		}
	}
}

var (
	nameGRPCStatus  = []byte("grpc-status")
	nameGRPCMessage = []byte("grpc-message")
	valueGRPC       = []byte("application/grpc")
)

// replyGRPC answers a gRPC call in the endpoint's place: a response that is
// only trailers.
func (st *h2Stream) replyGRPC(f *Failure) {
	e, w := st.engine(), st.server.worker
	e.BeginResponse(st.stream, 200)
	e.Field(nameType, valueGRPC, false)
	e.Field(nameDate, w.dateNow(), false)
	st.proxyStatusTo(f)
	fieldsTo(e, st.x.Extra)
	w.scratch = appendInt(w.scratch[:0], int64(st.x.codeOf(f)))
	e.Field(nameGRPCStatus, w.scratch, false)
	w.scratch = append(w.scratch[:0], f.Text...) // ours: needs no percent-encoding
	e.Field(nameGRPCMessage, w.scratch, false)
	e.EndHead(st.stream, true)
}
