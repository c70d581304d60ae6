package ratelimit

import (
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	common "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	rls "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// TestRequest: Envoy's own types read what is asked.
func TestRequest(t *testing.T) {
	r := Request{Domain: "shop", Hits: 2, Descriptors: []Descriptor{
		{Entries: []Entry{{"user", "7"}, {"path", "/cart"}}}, {Entries: []Entry{{"generic_key", ""}}, Hits: 5}}}
	var got rls.RateLimitRequest
	if err := proto.Unmarshal(r.Append(nil), &got); err != nil {
		t.Fatal(err)
	}
	want := &rls.RateLimitRequest{Domain: "shop", HitsAddend: 2, Descriptors: []*common.RateLimitDescriptor{
		{Entries: []*common.RateLimitDescriptor_Entry{{Key: "user", Value: "7"}, {Key: "path", Value: "/cart"}}},
		{Entries: []*common.RateLimitDescriptor_Entry{{Key: "generic_key"}}, HitsAddend: wrapperspb.UInt64(5)}}}
	if d := cmp.Diff(want, &got, protocmp.Transform()); d != "" {
		t.Error(d)
	}
}

// TestAnswer: what Envoy's own types write is read.
func TestAnswer(t *testing.T) {
	for name, unit := range rls.RateLimitResponse_RateLimit_Unit_value {
		want := map[string]time.Duration{"SECOND": time.Second, "MINUTE": time.Minute, "HOUR": time.Hour, "DAY": 24 * time.Hour, "WEEK": 7 * 24 * time.Hour,
			"MONTH": 30 * 24 * time.Hour, "YEAR": 365 * 24 * time.Hour}[name]
		b, err := proto.Marshal(&rls.RateLimitResponse{Statuses: []*rls.RateLimitResponse_DescriptorStatus{{
			CurrentLimit: &rls.RateLimitResponse_RateLimit{Unit: rls.RateLimitResponse_RateLimit_Unit(unit)}}}})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseAnswer(b); err != nil || got.Statuses[0].Per != want {
			t.Errorf("%s: %v %v, want %s", name, got, err, want)
		}
	}
	extra, err := structpb.NewStruct(map[string]any{"a": "b"})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		in   *rls.RateLimitResponse
		want Response
	}{
		"nothing": {&rls.RateLimitResponse{}, Response{}},
		"unknown": {&rls.RateLimitResponse{OverallCode: 7}, Response{}},
		"all": {&rls.RateLimitResponse{
			OverallCode: rls.RateLimitResponse_OVER_LIMIT,
			Statuses: []*rls.RateLimitResponse_DescriptorStatus{{Code: rls.RateLimitResponse_OK, LimitRemaining: 4}, {
				Code: rls.RateLimitResponse_OVER_LIMIT, DurationUntilReset: durationpb.New(1500 * time.Millisecond),
				CurrentLimit: &rls.RateLimitResponse_RateLimit{Name: "n", RequestsPerUnit: 9, Unit: rls.RateLimitResponse_RateLimit_MINUTE, UnitMultiplier: wrapperspb.UInt32(3)}}},
			ResponseHeadersToAdd: []*core.HeaderValue{{Key: "a", Value: "b"}, {Key: "c", RawValue: []byte("d")}},
			RequestHeadersToAdd:  []*core.HeaderValue{{Key: "e", Value: "f"}},
			RawBody:              []byte("no"), DynamicMetadata: extra, Quota: &rls.RateLimitResponse_Quota{Requests: 1},
		}, Response{Code: OverLimit, Body: []byte("no"), Response: []Header{{Name: "a", Value: "b"}, {Name: "c", Value: "d"}}, Request: []Header{{Name: "e", Value: "f"}},
			Statuses: []Status{{Code: OK, Left: 4}, {Code: OverLimit, Requests: 9, Per: 3 * time.Minute, Reset: 1500 * time.Millisecond}}}},
	} {
		b, err := proto.Marshal(test.in)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseAnswer(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d := cmp.Diff(&test.want, got, cmpopts.IgnoreUnexported(Response{}, Status{}, Header{})); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// FuzzAnswer: whatever comes, it is read or refused, and Envoy's own types agree on
// what they both read.
func FuzzAnswer(f *testing.F) {
	b, err := proto.Marshal(&rls.RateLimitResponse{OverallCode: rls.RateLimitResponse_OVER_LIMIT, RawBody: []byte("x"),
		Statuses: []*rls.RateLimitResponse_DescriptorStatus{{Code: rls.RateLimitResponse_OK, LimitRemaining: 4, DurationUntilReset: durationpb.New(time.Second)}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{0x12, 0x02, 0x12, 0x00})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := ParseAnswer(b)
		if err != nil {
			return
		}
		var theirs rls.RateLimitResponse
		if proto.Unmarshal(b, &theirs) != nil {
			return
		}
		if len(theirs.Statuses) != len(got.Statuses) || (theirs.OverallCode == rls.RateLimitResponse_OVER_LIMIT) != (got.Code == OverLimit) {
			t.Errorf("read %v as %v", &theirs, got)
		}
		for i := range got.Statuses {
			if s := &got.Statuses[i]; s.Per < 0 || s.Reset < 0 || s.Left != theirs.Statuses[i].LimitRemaining {
				t.Errorf("read %v as %v", theirs.Statuses[i], s)
			}
		}
	})
}
