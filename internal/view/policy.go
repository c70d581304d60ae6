package view

import (
	"math"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/wire/pb"
)

// A policy that isn't nil is complete, so that zero means zero: its message is
// written even when it is empty.

func requestMessage(m *pb.Message, r *policy.Request) {
	pb.Milliseconds(m, 1, "timeout_ms", &r.Timeout)
	pb.Milliseconds(m, 2, "try_ms", &r.Try)
	pb.Milliseconds(m, 3, "stream_idle_ms", &r.StreamIdle)
	pb.Struct(m, 4, "retry", &r.Retry, retryMessage)
	pb.Struct(m, 5, "hedge", &r.Hedge, hedgeMessage)
	pb.Messages(m, 6, "faults", maxFaults, &r.Faults, faultMessage)
	pb.Messages(m, 7, "limits", maxLimits, &r.Limits, rateLimitMessage)
	pb.Pointer(m, 8, "guard", &r.Guard, guardMessage)
}

func retryMessage(m *pb.Message, r *policy.Retry) {
	pb.Number(m, 1, "attempts", maxAttempts, &r.Attempts)
	pb.Number(m, 2, "on", allConditions, &r.On)
	pb.Numbers(m, 3, "statuses", maxStatuses, maxStatus, &r.Statuses)
	pb.Number(m, 4, "codes", allCodes, &r.Codes)
	pb.Bool(m, 5, "any", &r.Any)
	pb.Milliseconds(m, 6, "backoff_ms", &r.Backoff)
	pb.Milliseconds(m, 7, "max_backoff_ms", &r.MaxBackoff)
	pb.Milliseconds(m, 8, "max_retry_after_ms", &r.MaxRetryAfter)
	pb.Struct(m, 9, "budget", &r.Budget, func(m *pb.Message, b *policy.Budget) {
		pb.Number(m, 1, "percent", maxPercent, &b.Percent)
		pb.Number(m, 2, "min", math.MaxUint32, &b.Min)
	})
	pb.Number(m, 10, "buffer", math.MaxUint32, &r.Buffer)
	pb.Milliseconds(m, 11, "min_backoff_ms", &r.MinBackoff)
}

// What the sets of a policy.Retry can hold.
const (
	allConditions = policy.GRPCCodes<<1 - 1
	allCodes      = 1<<17 - 2 // bits 1 to 16
)

func hedgeMessage(m *pb.Message, h *policy.Hedge) {
	pb.Milliseconds(m, 1, "after_ms", &h.After)
	pb.Number(m, 2, "max", maxCopies, &h.Max)
}

func faultMessage(m *pb.Message, f *policy.Fault) {
	pb.String(m, 1, "name", maxName, &f.Name)
	pb.Number(m, 2, "share", policy.All, &f.Share)
	pb.Struct(m, 3, "when", &f.When, whenMessage)
	pb.Milliseconds(m, 4, "delay_ms", &f.Delay)
	pb.Number(m, 5, "status", maxStatus, &f.Status)
	code := uint8(max(f.GRPC, 0))
	pb.Enum(m, 6, "grpc", maxCode, &code)
	if m.Reading() {
		f.GRPC = int8(code)
	}
	pb.Bool(m, 7, "reset", &f.Reset)
	pb.Number(m, 8, "bytes_per_second", math.MaxUint32, &f.BytesPerSecond)
	pb.Time(m, 9, "until_ms", &f.Until)
}

func whenMessage(m *pb.Message, v *policy.Match) {
	pb.Strings(m, 1, "from", maxCallers, maxName, &v.From)
	pb.Strings(m, 2, "methods", maxConditions, maxName, &v.Methods)
	pb.Messages(m, 3, "paths", maxConditions, &v.Paths, func(m *pb.Message, p *policy.Path) {
		pb.Bool(m, 1, "prefix", &p.Prefix)
		pb.String(m, 2, "value", maxPath, &p.Value)
	})
	pb.Messages(m, 4, "headers", maxConditions, &v.Headers, func(m *pb.Message, h *policy.Header) {
		pb.String(m, 1, "name", maxName, &h.Name)
		pb.String(m, 2, "value", maxPath, &h.Value)
		pb.Bool(m, 3, "present", &h.Present)
	})
}

func rateLimitMessage(m *pb.Message, l *policy.RateLimit) {
	pb.String(m, 1, "name", maxName, &l.Name)
	pb.Struct(m, 2, "when", &l.When, whenMessage)
	pb.Number(m, 3, "requests", math.MaxUint32, &l.Requests)
	pb.Milliseconds(m, 4, "per_ms", &l.Per)
	pb.Number(m, 5, "burst", math.MaxUint32, &l.Burst)
	pb.Messages(m, 6, "by", maxDescriptors, &l.By, descriptorMessage)
	pb.Bool(m, 7, "global", &l.Global)
	pb.Bool(m, 8, "shadow", &l.Shadow)
	pb.Pointer(m, 9, "service", &l.Service, limitServiceMessage)
}

func limitServiceMessage(m *pb.Message, s *policy.LimitService) {
	pb.String(m, 1, "destination", maxName, &s.Destination)
	pb.String(m, 2, "domain", maxName, &s.Domain)
	pb.Milliseconds(m, 3, "timeout_ms", &s.Timeout)
	pb.Bool(m, 4, "closed", &s.Closed)
	pb.Messages(m, 5, "descriptors", maxDescriptors, &s.Descriptors, func(m *pb.Message, d *policy.LimitDescriptor) {
		pb.Struct(m, 1, "when", &d.When, whenMessage)
		pb.Messages(m, 2, "entries", maxDescriptors, &d.Entries, func(m *pb.Message, e *policy.LimitEntry) {
			pb.String(m, 1, "key", maxName, &e.Key)
			pb.String(m, 2, "value", maxName, &e.Value)
			pb.Struct(m, 3, "of", &e.Of, descriptorMessage)
		})
		pb.Number(m, 3, "hits", math.MaxUint32, &d.Hits)
	})
}

func descriptorMessage(m *pb.Message, d *policy.Descriptor) {
	pb.Enum(m, 1, "kind", policy.BySource, &d.Kind)
	pb.String(m, 2, "name", maxName, &d.Name)
}

func inboundMessage(m *pb.Message, i *policy.Inbound) {
	pb.Messages(m, 1, "limits", maxLimits, &i.Limits, rateLimitMessage)
	pb.Pointer(m, 2, "overload", &i.Overload, func(m *pb.Message, o *policy.Overload) {
		pb.Number(m, 1, "min", math.MaxUint32, &o.Min)
		pb.Number(m, 2, "max", math.MaxUint32, &o.Max)
		pb.Number(m, 3, "tolerance", math.MaxUint16, &o.Tolerance)
		pb.Milliseconds(m, 4, "queue_ms", &o.Queue)
		pb.Messages(m, 5, "priority", maxPriorities, &o.Priority, func(m *pb.Message, p *policy.Priority) {
			pb.Struct(m, 1, "when", &p.When, whenMessage)
			pb.Number(m, 2, "level", maxLevel, &p.Level)
		})
	})
	pb.Pointer(m, 3, "guard", &i.Guard, guardMessage)
}

func upstreamMessage(m *pb.Message, u *policy.Upstream) {
	pb.Struct(m, 1, "balance", &u.Balance, func(m *pb.Message, b *policy.Balance) {
		pb.Enum(m, 1, "algorithm", policy.Maglev, &b.Algorithm)
		pb.Messages(m, 2, "on", maxHashParts, &b.On, func(m *pb.Message, p *policy.HashPart) {
			pb.Enum(m, 1, "kind", policy.HashQuery, &p.Kind)
			pb.String(m, 2, "name", maxName, &p.Name)
		})
	})
	pb.Struct(m, 2, "session", &u.Session, sessionMessage)
	pb.Enum(m, 3, "locality", policy.OnlyZone, &u.Locality)
	pb.Milliseconds(m, 4, "slow_start_ms", &u.SlowStart)
	pb.Number(m, 5, "panic", maxPercent, &u.Panic)
	pb.Strings(m, 6, "subset", maxSubset, maxName, &u.Subset)
	pb.Struct(m, 7, "limits", &u.Limits, func(m *pb.Message, l *policy.Limits) {
		pb.Number(m, 1, "connections", math.MaxUint32, &l.Connections)
		pb.Number(m, 2, "requests", math.MaxUint32, &l.Requests)
		pb.Number(m, 3, "pending", math.MaxUint32, &l.Pending)
		pb.Milliseconds(m, 4, "pending_time_ms", &l.PendingTime)
	})
	pb.Milliseconds(m, 8, "connect_ms", &u.Connect)
	pb.Milliseconds(m, 9, "pool_idle_ms", &u.PoolIdle)
	pb.Struct(m, 10, "ejection", &u.Ejection, ejectionMessage)
	pb.Pointer(m, 11, "health", &u.Health, healthMessage)
}

func sessionMessage(m *pb.Message, s *policy.Session) {
	pb.Enum(m, 1, "kind", policy.SessionHeader, &s.Kind)
	pb.String(m, 2, "name", maxName, &s.Name)
	pb.Milliseconds(m, 3, "lifetime_ms", &s.Lifetime)
	pb.Bool(m, 4, "tracked", &s.Tracked)
}

func ejectionMessage(m *pb.Message, e *policy.Ejection) {
	pb.Bool(m, 1, "off", &e.Off)
	pb.Number(m, 2, "consecutive", math.MaxUint32, &e.Consecutive)
	pb.Number(m, 3, "success_rate", maxPercent, &e.SuccessRate)
	pb.Number(m, 4, "min_requests", math.MaxUint32, &e.MinRequests)
	pb.Milliseconds(m, 5, "window_ms", &e.Window)
	pb.Number(m, 6, "latency", maxPercent, &e.Latency)
	pb.Milliseconds(m, 7, "base_ms", &e.Base)
	pb.Milliseconds(m, 8, "max_backoff_ms", &e.MaxBackoff)
	pb.Number(m, 9, "max", maxPercent, &e.Max)
}

func healthMessage(m *pb.Message, h *policy.HealthCheck) {
	pb.Enum(m, 1, "kind", policy.HealthGRPC, &h.Kind)
	pb.String(m, 2, "path", maxPath, &h.Path)
	pb.String(m, 3, "host", maxName, &h.Host)
	pb.String(m, 4, "service", maxName, &h.Service)
	pb.Numbers(m, 5, "statuses", maxStatuses, maxStatus, &h.Statuses)
	pb.Milliseconds(m, 6, "interval_ms", &h.Interval)
	pb.Milliseconds(m, 7, "timeout_ms", &h.Timeout)
	pb.Number(m, 8, "unhealthy", math.MaxUint8, &h.Unhealthy)
	pb.Number(m, 9, "healthy", math.MaxUint8, &h.Healthy)
}
