package view

import (
	"math"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/wire/pb"
)

var egressMessage = pb.Describe(
	pb.Bool(1, "allow", func(e *policy.Egress) *bool { return &e.Allow }),
	pb.Bool(2, "audit", func(e *policy.Egress) *bool { return &e.Audit }),
	pb.Messages(3, "destinations", maxOutside, pb.Describe(
		pb.String(1, "name", maxName, func(d *policy.EgressDestination) *string { return &d.Name }),
		pb.Strings(2, "hosts", maxConditions, maxName, func(d *policy.EgressDestination) *[]string { return &d.Hosts }),
		pb.Strings(3, "networks", maxConditions, maxName, func(d *policy.EgressDestination) *[]string { return &d.Networks }),
		pb.Numbers(4, "ports", maxConditions, math.MaxUint16, func(d *policy.EgressDestination) *[]uint16 { return &d.Ports }),
		pb.Pointer(5, "tls", pb.Describe(
			pb.String(1, "server_name", maxName, func(t *policy.EgressTLS) *string { return &t.ServerName }),
			pb.Bytes(2, "roots", maxPEM, func(t *policy.EgressTLS) *[]byte { return &t.Roots }),
			pb.Bytes(3, "certificate", maxPEM, func(t *policy.EgressTLS) *[]byte { return &t.Certificate }),
			pb.Bytes(4, "key", maxPEM, func(t *policy.EgressTLS) *[]byte { return &t.Key }),
		), func(d *policy.EgressDestination) **policy.EgressTLS { return &d.TLS }),
		pb.Bool(6, "refused", func(d *policy.EgressDestination) *bool { return &d.Refused }),
	), func(e *policy.Egress) *[]policy.EgressDestination { return &e.Destinations }),
)
