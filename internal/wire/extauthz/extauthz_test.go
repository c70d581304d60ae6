package extauthz

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	auth "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// TestCheckRequest: Envoy's own types read what is asked.
func TestCheckRequest(t *testing.T) {
	now := time.Unix(1_800_000_000, 5)
	r := CheckRequest{
		Source:      Peer{Address: netip.MustParseAddrPort("192.0.2.1:4000"), Principal: "spiffe://mesh.local/ns/default/sa/web"},
		Destination: Peer{Address: netip.MustParseAddrPort("[2001:db8::1]:80"), Service: "cart.default:80", Principal: "spiffe://mesh.local/ns/default/sa/cart"},
		Time:        now,
		HTTP: HTTPRequest{ID: "1", Method: "POST", Headers: []Header{{"a", "b"}, {"c", ""}}, Path: "/x?y=1", Host: "cart",
			Scheme: "http", Size: -1, Protocol: "HTTP/2"},
	}
	var got auth.CheckRequest
	if err := proto.Unmarshal(r.Append(nil), &got); err != nil {
		t.Fatal(err)
	}
	peer := func(addr string, port uint32, service, principal string) *auth.AttributeContext_Peer {
		return &auth.AttributeContext_Peer{Service: service, Principal: principal, Address: &core.Address{Address: &core.Address_SocketAddress{
			SocketAddress: &core.SocketAddress{Address: addr, PortSpecifier: &core.SocketAddress_PortValue{PortValue: port}}}}}
	}
	want := &auth.CheckRequest{Attributes: &auth.AttributeContext{
		Source:      peer("192.0.2.1", 4000, "", "spiffe://mesh.local/ns/default/sa/web"),
		Destination: peer("2001:db8::1", 80, "cart.default:80", "spiffe://mesh.local/ns/default/sa/cart"),
		Request: &auth.AttributeContext_Request{Time: timestamppb.New(now), Http: &auth.AttributeContext_HttpRequest{Id: "1", Method: "POST",
			Headers: map[string]string{"a": "b", "c": ""}, Path: "/x?y=1", Host: "cart", Scheme: "http", Size: -1, Protocol: "HTTP/2"}},
	}}
	if diff := cmp.Diff(want, &got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

// TestParseAnswer: what Envoy's own types write is read.
func TestParseAnswer(t *testing.T) {
	option := func(k, v string, action core.HeaderValueOption_HeaderAppendAction) *core.HeaderValueOption {
		return &core.HeaderValueOption{Header: &core.HeaderValue{Key: k, Value: v}, AppendAction: action}
	}
	old := func(k, v string, add bool) *core.HeaderValueOption {
		return &core.HeaderValueOption{Header: &core.HeaderValue{Key: k, Value: v}, Append: wrapperspb.Bool(add)}
	}
	raw := &core.HeaderValueOption{Header: &core.HeaderValue{Key: "r", RawValue: []byte("x")}}
	detail, err := anypb.New(wrapperspb.Bool(true))
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		in   *auth.CheckResponse
		want *CheckResponse
	}{
		"nothing": {&auth.CheckResponse{}, &CheckResponse{}},
		"allowed": {&auth.CheckResponse{Status: &rpc.Status{}, DynamicMetadata: &structpb.Struct{Fields: map[string]*structpb.Value{"a": structpb.NewBoolValue(true), "b": structpb.NewNullValue()}},
			HttpResponse: &auth.CheckResponse_OkResponse{OkResponse: &auth.OkHttpResponse{
				Headers: []*core.HeaderValueOption{option("a", "1", 0), option("b", "2", 1), option("c", "3", 2), option("d", "4", 3),
					old("e", "5", true), old("f", "6", false), raw},
				HeadersToRemove: []string{"x", "y"}, ResponseHeadersToAdd: []*core.HeaderValueOption{option("g", "7", 0)},
				QueryParametersToSet: []*core.QueryParameter{{Key: "a"}, {Key: "b"}}, QueryParametersToRemove: []string{"a", "b"},
			}}},
			&CheckResponse{OK: &OK{Fields: []Change{{Header: Header{"a", "1"}}, {Header: Header{"b", "2"}, Action: AddIfAbsent}, {Header: Header{"c", "3"}, Action: Set},
				{Header: Header{"d", "4"}, Action: SetIfPresent}, {Header: Header{"e", "5"}}, {Header: Header{"f", "6"}, Action: Set}, {Header: Header{"r", "x"}}},
				Remove: []string{"x", "y"}, Response: []Change{{Header: Header{"g", "7"}}}}}},
		"denied": {&auth.CheckResponse{Status: &rpc.Status{Code: 7, Message: "no", Details: []*anypb.Any{detail, detail}},
			HttpResponse: &auth.CheckResponse_DeniedResponse{DeniedResponse: &auth.DeniedHttpResponse{Status: &typev3.HttpStatus{Code: 302},
				Headers: []*core.HeaderValueOption{option("location", "/login", 0)}, Body: "go"}}},
			&CheckResponse{Code: 7, Denied: &Denied{Status: 302, Fields: []Change{{Header: Header{"location", "/login"}}}, Body: "go"}}},
		"denied without more": {&auth.CheckResponse{Status: &rpc.Status{Code: 16}, HttpResponse: &auth.CheckResponse_DeniedResponse{DeniedResponse: &auth.DeniedHttpResponse{}}},
			&CheckResponse{Code: 16, Denied: &Denied{}}},
		"an error": {&auth.CheckResponse{Status: &rpc.Status{Code: 13}, HttpResponse: &auth.CheckResponse_ErrorResponse{ErrorResponse: &auth.DeniedHttpResponse{Body: "x"}}},
			&CheckResponse{Code: 13, Error: &Denied{Body: "x"}}},
		"a code below 0": {&auth.CheckResponse{Status: &rpc.Status{Code: -1}}, &CheckResponse{Code: 1<<64 - 1}},
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
		if diff := cmp.Diff(test.want, got, cmpopts.IgnoreUnexported(CheckResponse{}, Denied{}, OK{}, Change{})); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	many := &auth.OkHttpResponse{}
	for range maxFields + 1 {
		many.HeadersToRemove = append(many.HeadersToRemove, "x")
	}
	for name, in := range map[string]*auth.CheckResponse{
		"fields": {HttpResponse: &auth.CheckResponse_OkResponse{OkResponse: many}},
		"action": {HttpResponse: &auth.CheckResponse_OkResponse{OkResponse: &auth.OkHttpResponse{Headers: []*core.HeaderValueOption{option("a", "b", 9)}}}},
		"body":   {HttpResponse: &auth.CheckResponse_DeniedResponse{DeniedResponse: &auth.DeniedHttpResponse{Body: strings.Repeat("x", maxBody+1)}}},
		"size":   {Status: &rpc.Status{Message: strings.Repeat("x", MaxAnswer)}},
	} {
		b, err := proto.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseAnswer(b); err == nil {
			t.Errorf("%s over the bound is read", name)
		}
	}
}

// FuzzParseAnswer: what is read, Envoy's own types read too, and see the same code.
func FuzzParseAnswer(f *testing.F) {
	f.Add([]byte{10, 2, 8, 7})
	f.Add([]byte{26, 8, 18, 6, 10, 4, 10, 0, 18, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := ParseAnswer(b)
		if err != nil {
			return
		}
		var want auth.CheckResponse
		if err := proto.Unmarshal(b, &want); err != nil {
			return // of a field that isn't looked at
		}
		if (got.Code == 0) != (want.Status.GetCode() == 0) && got.Code>>32 == 0 {
			t.Errorf("code %d, want %d", got.Code, want.Status.GetCode())
		}
	})
}
