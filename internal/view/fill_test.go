package view

import (
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tulle.dev/tulle/internal/access"
	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/route"
)

var comparable = cmp.Options{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })}

// filler gives every field of a view a value, whatever fields there are: a field
// that is added to a noun and not to the codec fails the tests.
type filler struct {
	// number returns one of 0 to max, count how many elements a list has, there
	// whether a pointer isn't nil.
	number func(max uint64) uint64
	count  func() int
	there  func() bool
	text   func() string
}

// full is a view with one of everything and no field zero.
func full() *View {
	f := filler{
		number: func(max uint64) uint64 { return min(max, 3) }, count: func() int { return 1 },
		there: func() bool { return true }, text: func() string { return "text" },
	}
	return f.view()
}

// anyView draws a view whose values the codec keeps as they are.
func anyView(t *rapid.T) *View {
	text := rapid.StringMatching(`[a-zä./*-]{0,12}`)
	f := filler{
		number: func(max uint64) uint64 { return rapid.Uint64Range(0, max).Draw(t, "number") },
		count:  func() int { return rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, "count") },
		there:  func() bool { return rapid.Bool().Draw(t, "there") },
		text:   func() string { return text.Draw(t, "text") },
	}
	return f.view()
}

func (f *filler) view() *View {
	v := &View{}
	f.fill(reflect.ValueOf(v).Elem(), "View")
	return v
}

// The largest values of what doesn't take all that its Go type holds.
var (
	largestOf = map[reflect.Type]uint64{
		reflect.TypeFor[Role](): uint64(Gateway), reflect.TypeFor[PeerProtocol](): uint64(PeerHTTP2), reflect.TypeFor[ListenerKind](): uint64(Names),
		reflect.TypeFor[Protocol](): uint64(HTTP2), reflect.TypeFor[ProxyVersion](): uint64(ProxyV2),
		reflect.TypeFor[route.PathKind](): uint64(route.PathGRPCMethod), reflect.TypeFor[route.PathChange](): uint64(route.PrefixPath),
		reflect.TypeFor[policy.Share](): uint64(policy.All), reflect.TypeFor[policy.Condition](): 1<<10 - 1, reflect.TypeFor[policy.DescriptorKind](): uint64(policy.BySource),
		reflect.TypeFor[policy.Algorithm](): uint64(policy.Maglev), reflect.TypeFor[policy.HashKind](): uint64(policy.HashQuery),
		reflect.TypeFor[policy.SessionKind](): uint64(policy.SessionHeader), reflect.TypeFor[policy.Locality](): uint64(policy.OnlyZone),
		reflect.TypeFor[policy.HealthKind](): uint64(policy.HealthGRPC), reflect.TypeFor[policy.LogMode](): uint64(policy.LogAll),
		reflect.TypeFor[access.Action](): uint64(access.Allow), reflect.TypeFor[access.PathKind](): uint64(access.PathMethod),
	}
	largestIn = map[string]uint64{
		"Retry.Attempts": 10, "Retry.Statuses": 599, "Retry.Codes": 1<<17 - 2, "Budget.Percent": 100, "Hedge.Max": 3, "Fault.Status": 599, "Fault.GRPC": 16,
		"Priority.Level": 9, "Upstream.Panic": 100, "Ejection.SuccessRate": 100, "Ejection.Latency": 100, "Ejection.Max": 100,
		"HealthCheck.Statuses": 599, "AccessLog.Sample": 100, "Redirect.Status": 599,
	}
)

func (f *filler) largest(t reflect.Type, where string) uint64 {
	if n, ok := largestOf[t]; ok {
		return n
	}
	if n, ok := largestIn[where]; ok {
		return n
	}
	return math.MaxUint64 >> (64 - t.Bits())
}

// fill fills v, which is the field named where, TYPE.FIELD.
func (f *filler) fill(v reflect.Value, where string) {
	switch v.Interface().(type) {
	case time.Duration:
		v.SetInt(int64(time.Duration(f.number(1<<40)) * time.Millisecond))
		return
	case time.Time:
		if ms := f.number(1 << 42); ms != 0 {
			v.Set(reflect.ValueOf(time.UnixMilli(int64(ms)).UTC()))
		}
		return
	case netip.Addr:
		v.Set(reflect.ValueOf(f.addr()))
		return
	case netip.AddrPort:
		if where == "Endpoint.Address" || f.there() {
			v.Set(reflect.ValueOf(netip.AddrPortFrom(f.addr(), uint16(1+f.number(math.MaxUint16-1)))))
		}
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(f.text())
	case reflect.Bool:
		v.SetBool(f.there())
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(f.number(f.largest(v.Type(), where)))
	case reflect.Int8:
		v.SetInt(int64(f.number(f.largest(v.Type(), where))))
	case reflect.Pointer:
		if f.there() {
			v.Set(reflect.New(v.Type().Elem()))
			f.fill(v.Elem(), where)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f.fill(v.Field(i), v.Type().Name()+"."+v.Type().Field(i).Name)
		}
	case reflect.Slice:
		for range f.count() {
			e := reflect.New(v.Type().Elem()).Elem()
			f.fill(e, where)
			v.Set(reflect.Append(v, e))
		}
	case reflect.Map: // the value knows its key
		for range f.count() {
			key := fmt.Sprintf("k%d", f.number(5))
			e := reflect.New(v.Type().Elem()).Elem()
			if e.Kind() != reflect.Pointer {
				f.fill(e, where)
			} else {
				e.Set(reflect.New(e.Type().Elem()))
				f.fill(e.Elem(), where)
				e.Elem().Field(0).SetString(key)
			}
			if v.IsNil() {
				v.Set(reflect.MakeMap(v.Type()))
			}
			v.SetMapIndex(reflect.ValueOf(key), e)
		}
	default:
		panic(fmt.Sprintf("%s: fill doesn't know %s", where, v.Type()))
	}
}

func (f *filler) addr() netip.Addr {
	if f.there() {
		return netip.AddrFrom4([4]byte{byte(f.number(255)), byte(f.number(255)), 0, 1})
	}
	return netip.AddrFrom16([16]byte{0xfd, byte(f.number(255)), 10: byte(f.number(255)), 15: 1})
}
