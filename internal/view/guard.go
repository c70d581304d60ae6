package view

import (
	"tulle.dev/tulle/internal/access"
	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/wire/pb"
)

func guardMessage(m *pb.Message, g *policy.Guard) {
	pb.Pointer(m, 1, "jwt", &g.JWT, func(m *pb.Message, j *policy.JWT) {
		pb.Bool(m, 1, "required", &j.Required)
		pb.Messages(m, 2, "issuers", maxIssuers, &j.Issuers, issuerMessage)
	})
	pb.Pointer(m, 2, "access", &g.Access, accessMessage)
	pb.Pointer(m, 3, "external", &g.External, func(m *pb.Message, e *policy.External) {
		pb.String(m, 1, "destination", maxName, &e.Destination)
		pb.Bool(m, 2, "grpc", &e.GRPC)
		pb.String(m, 3, "path", maxPath, &e.Path)
		pb.Milliseconds(m, 4, "timeout_ms", &e.Timeout)
		pb.Bool(m, 5, "fail_open", &e.FailOpen)
		pb.Strings(m, 6, "send", maxConditions, maxName, &e.Send)
		pb.Strings(m, 7, "take", maxConditions, maxName, &e.Take)
	})
}

func issuerMessage(m *pb.Message, i *policy.Issuer) {
	pb.String(m, 1, "name", maxPath, &i.Name)
	pb.Strings(m, 2, "audiences", maxConditions, maxPath, &i.Audiences)
	pb.Bytes(m, 3, "keys", maxKeys, &i.Keys)
	pb.Messages(m, 4, "headers", maxConditions, &i.Headers, func(m *pb.Message, h *policy.TokenHeader) {
		pb.String(m, 1, "name", maxName, &h.Name)
		pb.String(m, 2, "prefix", maxName, &h.Prefix)
	})
	pb.Messages(m, 5, "claims", maxConditions, &i.Claims, func(m *pb.Message, c *policy.ClaimHeader) {
		pb.String(m, 1, "claim", maxName, &c.Claim)
		pb.String(m, 2, "header", maxName, &c.Header)
	})
	pb.Bool(m, 6, "forward", &i.Forward)
	pb.String(m, 7, "domain", maxName, &i.Domain)
}

func accessMessage(m *pb.Message, s *access.Spec) {
	pb.Enum(m, 1, "default", access.Allow, &s.Default)
	pb.Messages(m, 2, "rules", access.MaxRules, &s.Rules, func(m *pb.Message, r *access.Rule) {
		pb.String(m, 1, "name", maxName, &r.Name)
		pb.Enum(m, 2, "action", access.Allow, &r.Action)
		pb.Bool(m, 3, "audit", &r.Audit)
		pb.Bool(m, 4, "allow_unenforceable", &r.AllowUnenforceable)
		pb.Messages(m, 5, "from", maxCallers, &r.From, sourceMessage)
		pb.Messages(m, 6, "to", maxCallers, &r.To, operationMessage)
		pb.Messages(m, 7, "when", maxConditions, &r.When, func(m *pb.Message, c *access.Claim) {
			pb.String(m, 1, "name", maxName, &c.Name)
			pb.Strings(m, 2, "values", maxCallers, maxPath, &c.Values)
		})
	})
	pb.Bool(m, 3, "explain", &s.Explain)
	pb.Enum(m, 4, "foreign", access.Allow, &s.Foreign)
}

func sourceMessage(m *pb.Message, s *access.Source) {
	pb.Strings(m, 1, "identities", maxCallers, maxPath, &s.Identities)
	pb.Strings(m, 2, "not_identities", maxCallers, maxPath, &s.NotIdentities)
	pb.Strings(m, 3, "service_accounts", maxCallers, maxName, &s.ServiceAccounts)
	pb.Strings(m, 4, "namespaces", maxCallers, maxName, &s.Namespaces)
	pb.Strings(m, 5, "not_namespaces", maxCallers, maxName, &s.NotNamespaces)
	pb.Strings(m, 6, "trust_domains", maxCallers, maxName, &s.TrustDomains)
	pb.Strings(m, 7, "networks", maxCallers, maxName, &s.Networks)
	pb.Strings(m, 8, "not_networks", maxCallers, maxName, &s.NotNetworks)
	pb.Strings(m, 9, "not_service_accounts", maxCallers, maxName, &s.NotServiceAccounts)
}

func pathMessage(m *pb.Message, p *access.Path) {
	pb.Enum(m, 1, "kind", access.PathMethod, &p.Kind)
	pb.String(m, 2, "value", maxPath, &p.Value)
}

func operationMessage(m *pb.Message, o *access.Operation) {
	pb.Strings(m, 1, "methods", maxConditions, maxName, &o.Methods)
	pb.Strings(m, 2, "not_methods", maxConditions, maxName, &o.NotMethods)
	pb.Messages(m, 3, "paths", maxCallers, &o.Paths, pathMessage)
	pb.Messages(m, 4, "not_paths", maxCallers, &o.NotPaths, pathMessage)
	pb.Strings(m, 5, "hosts", maxConditions, maxName, &o.Hosts)
	pb.Strings(m, 6, "server_names", maxConditions, maxName, &o.ServerNames)
	pb.Messages(m, 7, "headers", maxConditions, &o.Headers, func(m *pb.Message, h *access.Header) {
		pb.String(m, 1, "name", maxName, &h.Name)
		pb.Strings(m, 2, "values", maxConditions, maxPath, &h.Values)
		pb.Bool(m, 3, "not", &h.Not)
	})
}
