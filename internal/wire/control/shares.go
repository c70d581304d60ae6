package control

import "tulle.dev/tulle/internal/wire/pb"

// This file is the messages about limits that all proxies have together.

// MaxShares bounds the limits of a Demand or of Shares.
const MaxShares = 1024

func appendDemand(b []byte, m *Demand) []byte {
	for _, d := range m.Limits {
		b = pb.AppendMessage(b, 1, func(b []byte) []byte {
			return pb.AppendBool(pb.AppendUint(pb.AppendString(b, 1, d.Limit), 2, d.Part), 3, d.Keyed)
		})
	}
	return b
}

func appendShares(b []byte, m *Shares) []byte {
	for _, s := range m.Limits {
		b = pb.AppendMessage(b, 1, func(b []byte) []byte {
			return pb.AppendUint(pb.AppendString(b, 1, s.Limit), 2, s.Part)
		})
	}
	return b
}

func readDemand(b []byte, m *Demand) error {
	return pb.Fields(b, pb.Repeated(1), func(f pb.Field) error {
		if f.Number == 1 {
			return element(f, "limits", &m.Limits, MaxShares, readLimitDemand)
		}
		return nil
	})
}

func readLimitDemand(b []byte, d *LimitDemand) error {
	return pb.Fields(b, 0, func(f pb.Field) error {
		switch f.Number {
		case 1:
			return pb.In("limit", f.String(maxKey, &d.Limit))
		case 2:
			return pb.In("part", f.Uint64(&d.Part))
		case 3:
			return pb.In("keyed", f.Bool(&d.Keyed))
		}
		return nil
	})
}

func readShares(b []byte, m *Shares) error {
	return pb.Fields(b, pb.Repeated(1), func(f pb.Field) error {
		if f.Number == 1 {
			return element(f, "limits", &m.Limits, MaxShares, readShare)
		}
		return nil
	})
}

func readShare(b []byte, s *Share) error {
	return pb.Fields(b, 0, func(f pb.Field) error {
		switch f.Number {
		case 1:
			return pb.In("limit", f.String(maxKey, &s.Limit))
		case 2:
			return pb.In("part", f.Uint64(&s.Part))
		}
		return nil
	})
}
