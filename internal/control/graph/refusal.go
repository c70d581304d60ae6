package graph

import (
	"fmt"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// gatewayClass is the class of the gateways that are served here.
const gatewayClass = "tulle"

// refusal says why a gateway as a whole isn't served, nil when it is. What it asks
// for is valid and not done here; to serve it without would be worse than not to.
func refusal(g *gatewayv1.Gateway) *problem {
	spec := &g.Spec
	switch {
	case spec.GatewayClassName != gatewayClass:
		return &problem{string(gatewayv1.GatewayReasonInvalid), fmt.Sprintf("gatewayClassName %q isn't served here: want %s", spec.GatewayClassName, gatewayClass)}
	case spec.Infrastructure != nil && spec.Infrastructure.ParametersRef != nil:
		return &problem{string(gatewayv1.GatewayReasonInvalidParameters), "infrastructure.parametersRef is not supported: leave it out"}
	case spec.TLS != nil:
		return &problem{string(gatewayv1.GatewayReasonInvalid), "tls of the whole gateway is not supported: put certificateRefs under the listener's tls"}
	case spec.DefaultScope != "" && spec.DefaultScope != gatewayv1.GatewayDefaultScopeNone:
		return &problem{string(gatewayv1.GatewayReasonInvalid), fmt.Sprintf("defaultScope %s is not supported: name the gateway in the routes' parentRefs", spec.DefaultScope)}
	}
	for i := range spec.Addresses {
		if t := val(spec.Addresses[i].Type, gatewayv1.IPAddressType); t != gatewayv1.IPAddressType || spec.Addresses[i].Value == "" {
			return &problem{string(gatewayv1.GatewayReasonUnsupportedAddress), fmt.Sprintf("addresses[%d]: want type IPAddress with a value", i)}
		}
	}
	return nil
}

// refuse writes a refusal in a gateway's status.
func (s *Status) refuse(p *problem) {
	no := Condition{Type: "Programmed", Reason: "Invalid", Message: p.message}
	s.Conditions = []Condition{{Type: "Accepted", Reason: p.reason, Message: p.message}, no}
	for i := range s.Listeners {
		for j := range s.Listeners[i].Conditions {
			if c := &s.Listeners[i].Conditions[j]; c.Type == no.Type {
				*c = no
			}
		}
	}
}
