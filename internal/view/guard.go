package view

import (
	"time"

	"tulle.dev/tulle/internal/access"
	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/wire/pb"
)

var guardMessage = pb.Describe(
	pb.Pointer(1, "jwt", pb.Describe(
		pb.Bool(1, "required", func(j *policy.JWT) *bool { return &j.Required }),
		pb.Messages(2, "issuers", maxIssuers, issuerMessage, func(j *policy.JWT) *[]policy.Issuer { return &j.Issuers }),
	), func(g *policy.Guard) **policy.JWT { return &g.JWT }),
	pb.Pointer(2, "access", accessMessage, func(g *policy.Guard) **access.Spec { return &g.Access }),
	pb.Pointer(3, "external", pb.Describe(
		pb.String(1, "destination", maxName, func(e *policy.External) *string { return &e.Destination }),
		pb.Bool(2, "grpc", func(e *policy.External) *bool { return &e.GRPC }),
		pb.String(3, "path", maxPath, func(e *policy.External) *string { return &e.Path }),
		pb.Milliseconds(4, "timeout_ms", func(e *policy.External) *time.Duration { return &e.Timeout }),
		pb.Bool(5, "fail_open", func(e *policy.External) *bool { return &e.FailOpen }),
		pb.Strings(6, "send", maxConditions, maxName, func(e *policy.External) *[]string { return &e.Send }),
		pb.Strings(7, "take", maxConditions, maxName, func(e *policy.External) *[]string { return &e.Take }),
	), func(g *policy.Guard) **policy.External { return &g.External }),
)

var issuerMessage = pb.Describe(
	pb.String(1, "name", maxPath, func(i *policy.Issuer) *string { return &i.Name }),
	pb.Strings(2, "audiences", maxConditions, maxPath, func(i *policy.Issuer) *[]string { return &i.Audiences }),
	pb.Bytes(3, "keys", maxKeys, func(i *policy.Issuer) *[]byte { return &i.Keys }),
	pb.Messages(4, "headers", maxConditions, pb.Describe(
		pb.String(1, "name", maxName, func(h *policy.TokenHeader) *string { return &h.Name }),
		pb.String(2, "prefix", maxName, func(h *policy.TokenHeader) *string { return &h.Prefix }),
	), func(i *policy.Issuer) *[]policy.TokenHeader { return &i.Headers }),
	pb.Messages(5, "claims", maxConditions, pb.Describe(
		pb.String(1, "claim", maxName, func(c *policy.ClaimHeader) *string { return &c.Claim }),
		pb.String(2, "header", maxName, func(c *policy.ClaimHeader) *string { return &c.Header }),
	), func(i *policy.Issuer) *[]policy.ClaimHeader { return &i.Claims }),
	pb.Bool(6, "forward", func(i *policy.Issuer) *bool { return &i.Forward }),
)

var accessMessage = pb.Describe(
	pb.Enum(1, "default", access.Allow, func(s *access.Spec) *access.Action { return &s.Default }),
	pb.Messages(2, "rules", access.MaxRules, pb.Describe(
		pb.String(1, "name", maxName, func(r *access.Rule) *string { return &r.Name }),
		pb.Enum(2, "action", access.Allow, func(r *access.Rule) *access.Action { return &r.Action }),
		pb.Bool(3, "audit", func(r *access.Rule) *bool { return &r.Audit }),
		pb.Bool(4, "allow_unenforceable", func(r *access.Rule) *bool { return &r.AllowUnenforceable }),
		pb.Messages(5, "from", maxCallers, sourceMessage, func(r *access.Rule) *[]access.Source { return &r.From }),
		pb.Messages(6, "to", maxCallers, operationMessage, func(r *access.Rule) *[]access.Operation { return &r.To }),
		pb.Messages(7, "when", maxConditions, pb.Describe(
			pb.String(1, "name", maxName, func(c *access.Claim) *string { return &c.Name }),
			pb.Strings(2, "values", maxCallers, maxPath, func(c *access.Claim) *[]string { return &c.Values }),
		), func(r *access.Rule) *[]access.Claim { return &r.When }),
	), func(s *access.Spec) *[]access.Rule { return &s.Rules }),
	pb.Bool(3, "explain", func(s *access.Spec) *bool { return &s.Explain }),
	pb.Enum(4, "foreign", access.Allow, func(s *access.Spec) *access.Action { return &s.Foreign }),
)

var sourceMessage = pb.Describe(
	pb.Strings(1, "identities", maxCallers, maxPath, func(s *access.Source) *[]string { return &s.Identities }),
	pb.Strings(2, "not_identities", maxCallers, maxPath, func(s *access.Source) *[]string { return &s.NotIdentities }),
	pb.Strings(3, "service_accounts", maxCallers, maxName, func(s *access.Source) *[]string { return &s.ServiceAccounts }),
	pb.Strings(4, "namespaces", maxCallers, maxName, func(s *access.Source) *[]string { return &s.Namespaces }),
	pb.Strings(5, "not_namespaces", maxCallers, maxName, func(s *access.Source) *[]string { return &s.NotNamespaces }),
	pb.Strings(6, "trust_domains", maxCallers, maxName, func(s *access.Source) *[]string { return &s.TrustDomains }),
	pb.Strings(7, "networks", maxCallers, maxName, func(s *access.Source) *[]string { return &s.Networks }),
	pb.Strings(8, "not_networks", maxCallers, maxName, func(s *access.Source) *[]string { return &s.NotNetworks }),
	pb.Strings(9, "not_service_accounts", maxCallers, maxName, func(s *access.Source) *[]string { return &s.NotServiceAccounts }),
)

var pathMessage = pb.Describe(
	pb.Enum(1, "kind", access.PathMethod, func(p *access.Path) *access.PathKind { return &p.Kind }),
	pb.String(2, "value", maxPath, func(p *access.Path) *string { return &p.Value }),
)

var operationMessage = pb.Describe(
	pb.Strings(1, "methods", maxConditions, maxName, func(o *access.Operation) *[]string { return &o.Methods }),
	pb.Strings(2, "not_methods", maxConditions, maxName, func(o *access.Operation) *[]string { return &o.NotMethods }),
	pb.Messages(3, "paths", maxCallers, pathMessage, func(o *access.Operation) *[]access.Path { return &o.Paths }),
	pb.Messages(4, "not_paths", maxCallers, pathMessage, func(o *access.Operation) *[]access.Path { return &o.NotPaths }),
	pb.Strings(5, "hosts", maxConditions, maxName, func(o *access.Operation) *[]string { return &o.Hosts }),
	pb.Strings(6, "server_names", maxConditions, maxName, func(o *access.Operation) *[]string { return &o.ServerNames }),
	pb.Messages(7, "headers", maxConditions, pb.Describe(
		pb.String(1, "name", maxName, func(h *access.Header) *string { return &h.Name }),
		pb.Strings(2, "values", maxConditions, maxPath, func(h *access.Header) *[]string { return &h.Values }),
		pb.Bool(3, "not", func(h *access.Header) *bool { return &h.Not }),
	), func(o *access.Operation) *[]access.Header { return &o.Headers }),
)
