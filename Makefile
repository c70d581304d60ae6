# The names here are the repository's interface: CI and people call only these.
#
#   make demo         a whole mesh and the sample shop, until Ctrl-C
#   make test         every test; the last line counts them
#   make build        bin/tulle and bin/tulle-proxy
#   make signer       bin/tulle-signer, with PKCS #11 (needs a C compiler)
#   make check        formatting, vet, import rules, generated files
#   make bench        every table of bench/; make bench-http1, bench-traffic, ... for one or a group
#   make profile      the profile that the proxy is compiled by, from the benches' load
#   make fuzz         each fuzz target for FUZZTIME
#   make h2spec       HTTP/2's conformance suite; the last line is its own count
#   make crds         api/crds, their reference and the embedded schemas, from api/v1alpha1
#   make web          rebuilds the dashboard's assets from their sources

GO       ?= go
FUZZTIME ?= 60s
BENCH    ?=
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
# Static and stripped; the same sources and toolchain give the same bytes.
BUILD    := CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w -X main.version=$(VERSION) -X tulle.dev/tulle/internal/cli.Version=$(VERSION)'

.PHONY: all demo build test check fuzz h2spec profile bench bench-% crds web clean shop signer

all: build

build:
	@mkdir -p bin
	$(BUILD) -o bin/ ./cmd/tulle ./cmd/tulle-proxy

# The one program with cgo: tokens' libraries are C.
signer:
	@mkdir -p bin
	CGO_ENABLED=1 $(GO) build -tags pkcs11 -trimpath -ldflags='-s -w -X main.version=$(VERSION)' -o bin/ ./cmd/tulle-signer

shop:
	@mkdir -p bin
	$(BUILD) -o bin/shop ./examples/shop/cmd

demo: build shop
	@exec bin/tulle up --demo

# What the tests start is built first, so that a slow build is no test's fault.
test: build shop
	@$(GO) build -o bin/ ./test/summary
	@bin/summary $(TESTFLAGS)

check:
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo 'run gofmt -w on:'; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet -pgo=off ./...
	CGO_ENABLED=1 $(GO) vet -tags pkcs11 ./cmd/tulle-signer
	@if command -v golangci-lint >/dev/null; then golangci-lint run; \
	else echo 'golangci-lint is not installed: the import rules are checked by `go test .` as well'; fi

fuzz:
	@failed=0; for p in $$($(GO) list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
	    echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$p || failed=1; \
	  done; done; exit $$failed

# HTTP/2's conformance suite against the proxy as a server, plain and TLS.
h2spec: build
	@cd test/h2spec && $(GO) build -o ../../bin/h2spec-run . && $(GO) build -o ../../bin/h2spec github.com/summerwind/h2spec/cmd/h2spec
	@bin/h2spec-run bin/tulle bin/tulle-proxy bin/h2spec

bench: build shop
	@$(GO) build -o bin/ ./bench
	@bin/bench $(BENCH)

bench-%: build shop
	@$(GO) build -o bin/ ./bench
	@bin/bench $(BENCH) $*

# Profile-guided optimisation: go build takes cmd/tulle-proxy/default.pgo by itself.
# Programs that did next to nothing have no profile worth merging.
profile: build
	@dir=$$(mktemp -d) && $(GO) build -o bin/ ./bench && \
	CGO_ENABLED=0 $(GO) build -tags profile -trimpath -o $$dir/tulle-proxy ./cmd/tulle-proxy && mkdir $$dir/profiles && \
	for table in http1 http2; do TULLE_PROFILE=$$dir/profiles bin/bench -tulle-proxy $$dir/tulle-proxy -rounds 1 -seconds 2 -without nginx,haproxy,envoy $$table; done; \
	find $$dir/profiles -size -1k -delete; \
	$(GO) tool pprof -proto $$dir/profiles/* > cmd/tulle-proxy/default.pgo && rm -r $$dir

# controller-gen is fetched here and only here: nothing links it.
crds:
	$(GO) generate ./api/v1alpha1
	@$(GO) test ./api/v1alpha1 ./internal/control/object/schema -run 'Sources|Reference|Compact' -update

web:
	cd web && npm ci && npm run build

clean:
	rm -rf bin
