package object

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
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

// AnnotationTrustedProxies on a Gateway says which proxies before it are believed
// when they say from where a request came: see TrustedProxies.
const AnnotationTrustedProxies = "tulle.dev/trusted-proxies"

// maxTrusted bounds what TrustedProxies takes, of hops and of networks.
const maxTrusted = 32

// TrustedProxies reads the annotation: a number of hops (1 to 32), or addresses and
// networks with commas between them. Empty is nobody.
func TrustedProxies(v string) (hops uint32, networks []string, err error) {
	if v = strings.TrimSpace(v); v == "" {
		return 0, nil, nil
	}
	if n, err := strconv.ParseUint(v, 10, 32); err == nil {
		if n == 0 || n > maxTrusted {
			return 0, nil, fmt.Errorf("%d: want 1 to %d hops", n, maxTrusted)
		}
		return uint32(n), nil, nil
	}
	for _, part := range strings.Split(v, ",") {
		part = strings.TrimSpace(part)
		p, err := netip.ParsePrefix(part)
		if err != nil {
			a, err := netip.ParseAddr(part)
			if err != nil || a.Zone() != "" {
				return 0, nil, fmt.Errorf("%q: want a number of hops, or networks such as 10.0.0.0/8", part)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		networks = append(networks, p.Masked().String())
	}
	if len(networks) > maxTrusted {
		return 0, nil, fmt.Errorf("has %d networks, want at most %d", len(networks), maxTrusted)
	}
	return 0, networks, nil
}

// validateGateway checks what is ours alone; the schema does the rest.
func validateGateway(g *gatewayv1.Gateway) []Issue {
	var is issues
	if v, ok := g.Annotations[AnnotationProxyProtocol]; ok && v != ProxyProtocolAccept {
		is.add("metadata.annotations["+AnnotationProxyProtocol+"]", "%q: want %s, or leave it out", v, ProxyProtocolAccept)
	}
	if _, _, err := TrustedProxies(g.Annotations[AnnotationTrustedProxies]); err != nil {
		is.add("metadata.annotations["+AnnotationTrustedProxies+"]", "%v", err)
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
