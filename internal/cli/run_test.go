package cli

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"tulle.dev/tulle/internal/run"
)

func TestParsePorts(t *testing.T) {
	type list = []string
	for _, test := range []struct {
		name                                string
		services, ports, protocols, headers list
		want                                []run.Port
	}{
		{"a client", nil, nil, nil, nil, nil},
		{"one", list{"cart"}, list{"8080"}, nil, nil, []run.Port{{Service: "cart", Port: 8080}}},
		{"elsewhere", list{"cart.shop"}, list{"80:8080"}, list{"http"}, nil, []run.Port{{Service: "cart.shop", Port: 80, App: 8080, Protocol: "http"}}},
		{"every port", list{"cart"}, nil, nil, nil, []run.Port{{Service: "cart"}}},
		{"one service, two ports", list{"cart"}, list{"1", "2"}, list{"http", "tcp"}, nil,
			[]run.Port{{Service: "cart", Port: 1, Protocol: "http"}, {Service: "cart", Port: 2, Protocol: "tcp"}}},
		{"HTTP/2", list{"cart"}, list{"1", "2", "3"}, list{"http2", "kubernetes.io/h2c", "grpc"}, nil,
			[]run.Port{{Service: "cart", Port: 1, Protocol: "http2"}, {Service: "cart", Port: 2, Protocol: "kubernetes.io/h2c"}, {Service: "cart", Port: 3, Protocol: "grpc"}}},
		{"a port each", list{"cart", "metrics"}, list{"1", "2"}, list{"http"}, nil,
			[]run.Port{{Service: "cart", Port: 1, Protocol: "http"}, {Service: "metrics", Port: 2, Protocol: "http"}}},
		{"PROXY headers", list{"mail"}, list{"25", "80", "110"}, list{"tcp", "http", "tcp"}, list{"v1", "none", "v2"},
			[]run.Port{{Service: "mail", Port: 25, Protocol: "tcp", ProxyProtocol: "v1"}, {Service: "mail", Port: 80, Protocol: "http"}, {Service: "mail", Port: 110, Protocol: "tcp", ProxyProtocol: "v2"}}},
		{"PROXY headers everywhere", list{"mail", "news"}, list{"25", "119"}, nil, list{"v2"},
			[]run.Port{{Service: "mail", Port: 25, Protocol: "tcp", ProxyProtocol: "v2"}, {Service: "news", Port: 119, Protocol: "tcp", ProxyProtocol: "v2"}}},
		{"two services, every port", list{"cart", "metrics"}, nil, nil, nil, []run.Port{{Service: "cart"}, {Service: "metrics"}}},
	} {
		got, err := parsePorts(test.services, test.ports, test.protocols, test.headers)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
	for _, test := range []struct {
		name                                string
		services, ports, protocols, headers list
	}{
		{"a port of nothing", nil, list{"80"}, nil, nil},
		{"two services, one port", list{"a", "b"}, list{"80"}, nil, nil},
		{"no number", list{"a"}, list{"http"}, nil, nil},
		{"too high", list{"a"}, list{"65536"}, nil, nil},
		{"zero", list{"a"}, list{"80:0"}, nil, nil},
		{"half", list{"a"}, list{"80:"}, nil, nil},
		{"three parts", list{"a"}, list{"1:2:3"}, nil, nil},
		{"protocol", list{"a"}, list{"80"}, list{"udp"}, nil},
		{"protocols", list{"a"}, list{"80"}, list{"tcp", "http"}, nil},
		{"PROXY headers of nothing", nil, nil, nil, list{"v1"}},
		{"PROXY version", list{"a"}, list{"80"}, nil, list{"v3"}},
		{"PROXY headers on HTTP", list{"a"}, list{"80"}, list{"http"}, list{"v1"}},
		{"too many PROXY headers", list{"a"}, list{"80"}, nil, list{"v1", "v2"}},
		{"name", list{"A_b"}, list{"80"}, nil, nil},
		{"namespace", list{"a.B"}, list{"80"}, nil, nil},
	} {
		if got, err := parsePorts(test.services, test.ports, test.protocols, test.headers); err == nil {
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
