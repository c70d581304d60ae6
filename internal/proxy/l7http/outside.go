package l7http

// leaving is the answer to a request that may not leave the mesh.
var leaving = &Failure{403, "http_request_denied", "The egress policy doesn't let this call leave the mesh.", false}

// NotOutside is how a Router refuses a request that the egress policy doesn't let
// leave the mesh. detail says what was missing.
func (x *Exchange) NotOutside(detail string) *Failure {
	x.detail = detail
	if x.trail != nil {
		x.trail.told = detail
	}
	return leaving
}
