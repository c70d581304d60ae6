package cli

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"tulle.dev/tulle/internal/run"
)

func TestParsePorts(t *testing.T) {
	type list = []string
	for _, test := range []struct {
		name                       string
		services, ports, protocols list
		want                       []run.Port
	}{
		{"a client", nil, nil, nil, nil},
		{"one", list{"cart"}, list{"8080"}, nil, []run.Port{{Service: "cart", Port: 8080}}},
		{"elsewhere", list{"cart.shop"}, list{"80:8080"}, list{"http"}, []run.Port{{Service: "cart.shop", Port: 80, App: 8080, Protocol: "http"}}},
		{"every port", list{"cart"}, nil, nil, []run.Port{{Service: "cart"}}},
		{"one service, two ports", list{"cart"}, list{"1", "2"}, list{"http", "tcp"},
			[]run.Port{{Service: "cart", Port: 1, Protocol: "http"}, {Service: "cart", Port: 2, Protocol: "tcp"}}},
		{"HTTP/2", list{"cart"}, list{"1", "2", "3"}, list{"http2", "kubernetes.io/h2c", "grpc"},
			[]run.Port{{Service: "cart", Port: 1, Protocol: "http2"}, {Service: "cart", Port: 2, Protocol: "kubernetes.io/h2c"}, {Service: "cart", Port: 3, Protocol: "grpc"}}},
		{"a port each", list{"cart", "metrics"}, list{"1", "2"}, list{"http"},
			[]run.Port{{Service: "cart", Port: 1, Protocol: "http"}, {Service: "metrics", Port: 2, Protocol: "http"}}},
		{"two services, every port", list{"cart", "metrics"}, nil, nil, []run.Port{{Service: "cart"}, {Service: "metrics"}}},
	} {
		got, err := parsePorts(test.services, test.ports, test.protocols)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
	for _, test := range []struct {
		name                       string
		services, ports, protocols list
	}{
		{"a port of nothing", nil, list{"80"}, nil},
		{"two services, one port", list{"a", "b"}, list{"80"}, nil},
		{"no number", list{"a"}, list{"http"}, nil},
		{"too high", list{"a"}, list{"65536"}, nil},
		{"zero", list{"a"}, list{"80:0"}, nil},
		{"half", list{"a"}, list{"80:"}, nil},
		{"three parts", list{"a"}, list{"1:2:3"}, nil},
		{"protocol", list{"a"}, list{"80"}, list{"udp"}},
		{"protocols", list{"a"}, list{"80"}, list{"tcp", "http"}},
		{"name", list{"A_b"}, list{"80"}, nil},
		{"namespace", list{"a.B"}, list{"80"}, nil},
	} {
		if got, err := parsePorts(test.services, test.ports, test.protocols); err == nil {
			t.Errorf("%s: %v, want an error", test.name, got)
		}
	}
}

func TestObjectName(t *testing.T) {
	for in, want := range map[string]string{
		"cart": "cart", "My_App.sh": "my-app-sh", "--": "program", "": "program", "ünï": "n",
		"a23456789-123456789-123456789-123456789-123456789-123456789-1234567": "a23456789-123456789-123456789-123456789-123456789-123456789-123",
	} {
		if got := objectName(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
