package view

import (
	"math"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/wire/pb"
)

func egressMessage(m *pb.Message, e *policy.Egress) {
	pb.Bool(m, 1, "allow", &e.Allow)
	pb.Bool(m, 2, "audit", &e.Audit)
	pb.Messages(m, 3, "destinations", maxOutside, &e.Destinations, func(m *pb.Message, d *policy.EgressDestination) {
		pb.String(m, 1, "name", maxName, &d.Name)
		pb.Strings(m, 2, "hosts", maxConditions, maxName, &d.Hosts)
		pb.Strings(m, 3, "networks", maxConditions, maxName, &d.Networks)
		pb.Numbers(m, 4, "ports", maxConditions, math.MaxUint16, &d.Ports)
		pb.Pointer(m, 5, "tls", &d.TLS, func(m *pb.Message, t *policy.EgressTLS) {
			pb.String(m, 1, "server_name", maxName, &t.ServerName)
			pb.Bytes(m, 2, "roots", maxPEM, &t.Roots)
			pb.Bytes(m, 3, "certificate", maxPEM, &t.Certificate)
			pb.Bytes(m, 4, "key", maxPEM, &t.Key)
		})
		pb.Bool(m, 6, "refused", &d.Refused)
	})
}
