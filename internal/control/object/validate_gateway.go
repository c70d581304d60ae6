package object

import (
	"fmt"
	"regexp"
	"time"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// AnnotationProxyProtocol on a Gateway says with ProxyProtocolAccept that the
// connections of its listeners begin with a PROXY header. The Gateway API has no
// field for it.
const (
	AnnotationProxyProtocol = "tulle.dev/proxy-protocol"
	ProxyProtocolAccept     = "accept"
)

// validateGateway checks what is ours alone; the schema does the rest.
func validateGateway(g *gatewayv1.Gateway) []Issue {
	var is issues
	if v, ok := g.Annotations[AnnotationProxyProtocol]; ok && v != ProxyProtocolAccept {
		is.add("metadata.annotations["+AnnotationProxyProtocol+"]", "%q: want %s, or leave it out", v, ProxyProtocolAccept)
	}
	return is
}

// gatewayDuration is GEP-2257's form.
var gatewayDuration = regexp.MustCompile(`^([0-9]{1,5}(h|m|s|ms)){1,4}$`)

// Duration reads a Gateway API duration (GEP-2257), such as 500ms or 1m30s.
func Duration(d gatewayv1.Duration) (time.Duration, error) {
	if !gatewayDuration.MatchString(string(d)) {
		return 0, fmt.Errorf("%q: want a duration such as 500ms, 10s or 1m30s", d)
	}
	return time.ParseDuration(string(d))
}
