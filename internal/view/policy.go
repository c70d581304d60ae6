package view

import (
	"math"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/wire/pb"
)

// A policy that isn't nil is complete, so that zero means zero: its message is
// written even when it is empty.

var requestMessage = pb.Describe(
	pb.Milliseconds(1, "timeout_ms", func(r *policy.Request) *time.Duration { return &r.Timeout }),
	pb.Milliseconds(2, "try_ms", func(r *policy.Request) *time.Duration { return &r.Try }),
	pb.Milliseconds(3, "stream_idle_ms", func(r *policy.Request) *time.Duration { return &r.StreamIdle }),
	pb.Struct(4, "retry", retryMessage, func(r *policy.Request) *policy.Retry { return &r.Retry }),
	pb.Struct(5, "hedge", hedgeMessage, func(r *policy.Request) *policy.Hedge { return &r.Hedge }),
	pb.Messages(6, "faults", maxFaults, faultMessage, func(r *policy.Request) *[]policy.Fault { return &r.Faults }),
	pb.Messages(7, "limits", maxLimits, rateLimitMessage, func(r *policy.Request) *[]policy.RateLimit { return &r.Limits }),
	pb.Pointer(8, "guard", guardMessage, func(r *policy.Request) **policy.Guard { return &r.Guard }),
)

var retryMessage = pb.Describe(
	pb.Number(1, "attempts", maxAttempts, func(r *policy.Retry) *uint8 { return &r.Attempts }),
	pb.Number(2, "on", allConditions, func(r *policy.Retry) *policy.Condition { return &r.On }),
	pb.Numbers(3, "statuses", maxStatuses, maxStatus, func(r *policy.Retry) *[]uint16 { return &r.Statuses }),
	pb.Number(4, "codes", allCodes, func(r *policy.Retry) *uint32 { return &r.Codes }),
	pb.Bool(5, "any", func(r *policy.Retry) *bool { return &r.Any }),
	pb.Milliseconds(6, "backoff_ms", func(r *policy.Retry) *time.Duration { return &r.Backoff }),
	pb.Milliseconds(7, "max_backoff_ms", func(r *policy.Retry) *time.Duration { return &r.MaxBackoff }),
	pb.Milliseconds(8, "max_retry_after_ms", func(r *policy.Retry) *time.Duration { return &r.MaxRetryAfter }),
	pb.Struct(9, "budget", pb.Describe(
		pb.Number(1, "percent", maxPercent, func(b *policy.Budget) *uint8 { return &b.Percent }),
		pb.Number(2, "min", math.MaxUint32, func(b *policy.Budget) *uint32 { return &b.Min }),
	), func(r *policy.Retry) *policy.Budget { return &r.Budget }),
	pb.Number(10, "buffer", math.MaxUint32, func(r *policy.Retry) *uint32 { return &r.Buffer }),
	pb.Milliseconds(11, "min_backoff_ms", func(r *policy.Retry) *time.Duration { return &r.MinBackoff }),
)

// What the sets of a policy.Retry can hold.
const (
	allConditions = policy.GRPCCodes<<1 - 1
	allCodes      = 1<<17 - 2 // bits 1 to 16
)

var hedgeMessage = pb.Describe(
	pb.Milliseconds(1, "after_ms", func(h *policy.Hedge) *time.Duration { return &h.After }),
	pb.Number(2, "max", maxCopies, func(h *policy.Hedge) *uint8 { return &h.Max }),
)

var faultMessage = pb.Describe(
	pb.String(1, "name", maxName, func(f *policy.Fault) *string { return &f.Name }),
	pb.Number(2, "share", policy.All, func(f *policy.Fault) *policy.Share { return &f.Share }),
	pb.Struct(3, "when", whenMessage, func(f *policy.Fault) *policy.Match { return &f.When }),
	pb.Milliseconds(4, "delay_ms", func(f *policy.Fault) *time.Duration { return &f.Delay }),
	pb.Number(5, "status", maxStatus, func(f *policy.Fault) *uint16 { return &f.Status }),
	pb.Custom(6, "grpc", false,
		func(f pb.Field, v *policy.Fault) error {
			var code uint8
			err := f.Enum(maxCode, &code)
			v.GRPC = int8(code)
			return err
		},
		func(b []byte, v *policy.Fault) []byte { return pb.AppendUint(b, 6, uint64(max(v.GRPC, 0))) }),
	pb.Bool(7, "reset", func(f *policy.Fault) *bool { return &f.Reset }),
	pb.Number(8, "bytes_per_second", math.MaxUint32, func(f *policy.Fault) *uint32 { return &f.BytesPerSecond }),
	pb.Time(9, "until_ms", func(f *policy.Fault) *time.Time { return &f.Until }),
)

var whenMessage = pb.Describe(
	pb.Strings(1, "from", maxCallers, maxName, func(m *policy.Match) *[]string { return &m.From }),
	pb.Strings(2, "methods", maxConditions, maxName, func(m *policy.Match) *[]string { return &m.Methods }),
	pb.Messages(3, "paths", maxConditions, pb.Describe(
		pb.Bool(1, "prefix", func(p *policy.Path) *bool { return &p.Prefix }),
		pb.String(2, "value", maxPath, func(p *policy.Path) *string { return &p.Value }),
	), func(m *policy.Match) *[]policy.Path { return &m.Paths }),
	pb.Messages(4, "headers", maxConditions, pb.Describe(
		pb.String(1, "name", maxName, func(h *policy.Header) *string { return &h.Name }),
		pb.String(2, "value", maxPath, func(h *policy.Header) *string { return &h.Value }),
		pb.Bool(3, "present", func(h *policy.Header) *bool { return &h.Present }),
	), func(m *policy.Match) *[]policy.Header { return &m.Headers }),
)

var rateLimitMessage = pb.Describe(
	pb.String(1, "name", maxName, func(l *policy.RateLimit) *string { return &l.Name }),
	pb.Struct(2, "when", whenMessage, func(l *policy.RateLimit) *policy.Match { return &l.When }),
	pb.Number(3, "requests", math.MaxUint32, func(l *policy.RateLimit) *uint32 { return &l.Requests }),
	pb.Milliseconds(4, "per_ms", func(l *policy.RateLimit) *time.Duration { return &l.Per }),
	pb.Number(5, "burst", math.MaxUint32, func(l *policy.RateLimit) *uint32 { return &l.Burst }),
	pb.Messages(6, "by", maxDescriptors, descriptorMessage, func(l *policy.RateLimit) *[]policy.Descriptor { return &l.By }),
	pb.Bool(7, "global", func(l *policy.RateLimit) *bool { return &l.Global }),
	pb.Bool(8, "shadow", func(l *policy.RateLimit) *bool { return &l.Shadow }),
	pb.Pointer(9, "service", limitServiceMessage, func(l *policy.RateLimit) **policy.LimitService { return &l.Service }),
)

var limitServiceMessage = pb.Describe(
	pb.String(1, "destination", maxName, func(s *policy.LimitService) *string { return &s.Destination }),
	pb.String(2, "domain", maxName, func(s *policy.LimitService) *string { return &s.Domain }),
	pb.Milliseconds(3, "timeout_ms", func(s *policy.LimitService) *time.Duration { return &s.Timeout }),
	pb.Bool(4, "closed", func(s *policy.LimitService) *bool { return &s.Closed }),
	pb.Messages(5, "descriptors", maxDescriptors, pb.Describe(
		pb.Struct(1, "when", whenMessage, func(d *policy.LimitDescriptor) *policy.Match { return &d.When }),
		pb.Messages(2, "entries", maxDescriptors, pb.Describe(
			pb.String(1, "key", maxName, func(e *policy.LimitEntry) *string { return &e.Key }),
			pb.String(2, "value", maxName, func(e *policy.LimitEntry) *string { return &e.Value }),
			pb.Struct(3, "of", descriptorMessage, func(e *policy.LimitEntry) *policy.Descriptor { return &e.Of }),
		), func(d *policy.LimitDescriptor) *[]policy.LimitEntry { return &d.Entries }),
		pb.Number(3, "hits", math.MaxUint32, func(d *policy.LimitDescriptor) *uint32 { return &d.Hits }),
	), func(s *policy.LimitService) *[]policy.LimitDescriptor { return &s.Descriptors }),
)

var descriptorMessage = pb.Describe(
	pb.Enum(1, "kind", policy.BySource, func(d *policy.Descriptor) *policy.DescriptorKind { return &d.Kind }),
	pb.String(2, "name", maxName, func(d *policy.Descriptor) *string { return &d.Name }),
)

var inboundMessage = pb.Describe(
	pb.Messages(1, "limits", maxLimits, rateLimitMessage, func(i *policy.Inbound) *[]policy.RateLimit { return &i.Limits }),
	pb.Pointer(2, "overload", pb.Describe(
		pb.Number(1, "min", math.MaxUint32, func(o *policy.Overload) *uint32 { return &o.Min }),
		pb.Number(2, "max", math.MaxUint32, func(o *policy.Overload) *uint32 { return &o.Max }),
		pb.Number(3, "tolerance", math.MaxUint16, func(o *policy.Overload) *uint16 { return &o.Tolerance }),
		pb.Milliseconds(4, "queue_ms", func(o *policy.Overload) *time.Duration { return &o.Queue }),
		pb.Messages(5, "priority", maxPriorities, pb.Describe(
			pb.Struct(1, "when", whenMessage, func(p *policy.Priority) *policy.Match { return &p.When }),
			pb.Number(2, "level", maxLevel, func(p *policy.Priority) *uint8 { return &p.Level }),
		), func(o *policy.Overload) *[]policy.Priority { return &o.Priority }),
	), func(i *policy.Inbound) **policy.Overload { return &i.Overload }),
	pb.Pointer(3, "guard", guardMessage, func(i *policy.Inbound) **policy.Guard { return &i.Guard }),
)

var upstreamMessage = pb.Describe(
	pb.Struct(1, "balance", pb.Describe(
		pb.Enum(1, "algorithm", policy.Maglev, func(b *policy.Balance) *policy.Algorithm { return &b.Algorithm }),
		pb.Messages(2, "on", maxHashParts, pb.Describe(
			pb.Enum(1, "kind", policy.HashQuery, func(p *policy.HashPart) *policy.HashKind { return &p.Kind }),
			pb.String(2, "name", maxName, func(p *policy.HashPart) *string { return &p.Name }),
		), func(b *policy.Balance) *[]policy.HashPart { return &b.On }),
	), func(u *policy.Upstream) *policy.Balance { return &u.Balance }),
	pb.Struct(2, "session", sessionMessage, func(u *policy.Upstream) *policy.Session { return &u.Session }),
	pb.Enum(3, "locality", policy.OnlyZone, func(u *policy.Upstream) *policy.Locality { return &u.Locality }),
	pb.Milliseconds(4, "slow_start_ms", func(u *policy.Upstream) *time.Duration { return &u.SlowStart }),
	pb.Number(5, "panic", maxPercent, func(u *policy.Upstream) *uint8 { return &u.Panic }),
	pb.Strings(6, "subset", maxSubset, maxName, func(u *policy.Upstream) *[]string { return &u.Subset }),
	pb.Struct(7, "limits", pb.Describe(
		pb.Number(1, "connections", math.MaxUint32, func(l *policy.Limits) *uint32 { return &l.Connections }),
		pb.Number(2, "requests", math.MaxUint32, func(l *policy.Limits) *uint32 { return &l.Requests }),
		pb.Number(3, "pending", math.MaxUint32, func(l *policy.Limits) *uint32 { return &l.Pending }),
		pb.Milliseconds(4, "pending_time_ms", func(l *policy.Limits) *time.Duration { return &l.PendingTime }),
	), func(u *policy.Upstream) *policy.Limits { return &u.Limits }),
	pb.Milliseconds(8, "connect_ms", func(u *policy.Upstream) *time.Duration { return &u.Connect }),
	pb.Milliseconds(9, "pool_idle_ms", func(u *policy.Upstream) *time.Duration { return &u.PoolIdle }),
	pb.Struct(10, "ejection", ejectionMessage, func(u *policy.Upstream) *policy.Ejection { return &u.Ejection }),
	pb.Pointer(11, "health", healthMessage, func(u *policy.Upstream) **policy.HealthCheck { return &u.Health }),
)

var sessionMessage = pb.Describe(
	pb.Enum(1, "kind", policy.SessionHeader, func(s *policy.Session) *policy.SessionKind { return &s.Kind }),
	pb.String(2, "name", maxName, func(s *policy.Session) *string { return &s.Name }),
	pb.Milliseconds(3, "lifetime_ms", func(s *policy.Session) *time.Duration { return &s.Lifetime }),
	pb.Bool(4, "tracked", func(s *policy.Session) *bool { return &s.Tracked }),
)

var ejectionMessage = pb.Describe(
	pb.Bool(1, "off", func(e *policy.Ejection) *bool { return &e.Off }),
	pb.Number(2, "consecutive", math.MaxUint32, func(e *policy.Ejection) *uint32 { return &e.Consecutive }),
	pb.Number(3, "success_rate", maxPercent, func(e *policy.Ejection) *uint8 { return &e.SuccessRate }),
	pb.Number(4, "min_requests", math.MaxUint32, func(e *policy.Ejection) *uint32 { return &e.MinRequests }),
	pb.Milliseconds(5, "window_ms", func(e *policy.Ejection) *time.Duration { return &e.Window }),
	pb.Number(6, "latency", maxPercent, func(e *policy.Ejection) *uint8 { return &e.Latency }),
	pb.Milliseconds(7, "base_ms", func(e *policy.Ejection) *time.Duration { return &e.Base }),
	pb.Milliseconds(8, "max_backoff_ms", func(e *policy.Ejection) *time.Duration { return &e.MaxBackoff }),
	pb.Number(9, "max", maxPercent, func(e *policy.Ejection) *uint8 { return &e.Max }),
)

var healthMessage = pb.Describe(
	pb.Enum(1, "kind", policy.HealthGRPC, func(h *policy.HealthCheck) *policy.HealthKind { return &h.Kind }),
	pb.String(2, "path", maxPath, func(h *policy.HealthCheck) *string { return &h.Path }),
	pb.String(3, "host", maxName, func(h *policy.HealthCheck) *string { return &h.Host }),
	pb.String(4, "service", maxName, func(h *policy.HealthCheck) *string { return &h.Service }),
	pb.Numbers(5, "statuses", maxStatuses, maxStatus, func(h *policy.HealthCheck) *[]uint16 { return &h.Statuses }),
	pb.Milliseconds(6, "interval_ms", func(h *policy.HealthCheck) *time.Duration { return &h.Interval }),
	pb.Milliseconds(7, "timeout_ms", func(h *policy.HealthCheck) *time.Duration { return &h.Timeout }),
	pb.Number(8, "unhealthy", math.MaxUint8, func(h *policy.HealthCheck) *uint8 { return &h.Unhealthy }),
	pb.Number(9, "healthy", math.MaxUint8, func(h *policy.HealthCheck) *uint8 { return &h.Healthy }),
)
