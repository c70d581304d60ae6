// Command bench measures Tulle beside its peers, HAProxy, nginx and Envoy, in one
// run on one machine: what a proxy costs depends so much on the machine that a
// figure alone says little, and a ratio more.
//
//	bench [-quick] [-rounds N] [-seconds N] [-without PEER,...] [-calls] [-profile DIR] [-long] [TABLE ...]
//
// The tables:
//
//	http1    CPU per request at full load: one plain hop, and a pair of proxies
//	         with mutual TLS between them, HTTP/1.1 or multiplexed HTTP/2; one
//	         proxy with 20 peers
//	http2    the same with HTTP/2 from client to server, and with gRPC's unary
//	         calls; 1,000 requests a second
//	http2-shared  small requests beside a reader that has stopped and a large
//	         download, on the one connection of a pair
//	bulk     large bodies and opaque TCP: CPU per gigabyte
//	rates    the same at 1,000, 100 and 10 requests a second, evenly paced:
//	         what most sidecars see; and the latency the pair adds
//	memory   idle, and with 1,000 idle client connections: memory, wake-ups, CPU;
//	         then with 10,000 of HTTP/1.1 and 1,000 of HTTP/2
//	start    from exec to the first answered request
//	code     Go benchmarks: allocations of a request, the time until a change
//	         has reached 200 proxies
//	demo     the time until `tulle up --demo` is green, and of commands beside it
//
//	traffic-routes       1,000 rules on a service: a look-up, and CPU per request
//	traffic-policies     CPU per request with the full stack of policies, and with none
//	traffic-slow         one of ten endpoints late by half a second: p99
//	traffic-failing      one of ten endpoints answers errors, then all: what clients
//	                     see, how much more load tries again make, ejection
//	traffic-overload     a workload under three times what it can do
//	identity-handshakes  full handshakes per CPU second, X25519 and X25519MLKEM768;
//	                     with -profile, what crypto/tls spends on them
//	identity-storm       existing traffic beside as many handshakes as there is room for
//	identity-access      1,000 access rules: a decision, and CPU per request
//	identity-issue       5,000 proxies ask for a certificate at once
//	identity-rotation    certificates renewed every minute, the root changed once,
//	                     under load: five minutes, so only by its name or with -long
//
// "http2", "traffic" and "identity" are all tables of that group.
//
// One of the peers of a plain HTTP/1.1 hop at full load is no proxy: "relay" reads
// and writes as often as a proxy has to and looks at nothing. What it costs is the kernel's,
// and no proxy of this form can cost less.
//
// How: every proxy has one thread and is pinned to CPU 0; the load generator
// and the server behind (nginx, 100 bytes) are on the others. The proxies take
// turns in each round, so that what disturbs the machine disturbs all of them;
// figures are medians of the rounds. CPU is the process's own clock (what
// /proc/PID/stat shows in ticks of 10 ms, in nanoseconds), divided by the
// requests answered. Full load is wrk's, 50 connections, or h2load's, 10 with 10
// streams each, before nghttpd; paced load is made by this program (paced.go, or
// traffic_load.go where answers may be slow or errors), which measures latency
// from the time a request was due. Before anything is measured the mutual TLS of
// each pair is looked at on the wire: a difference in suite or group, a ticket, a
// certificate that isn't asked for, ends the run.
//
// Each table ends with lines "ratio NAME VALUE limit LIMIT"; the exit code is
// 1 when a value is over its limit, 2 when something couldn't be measured.
//
// Envoy, which no Debian package has, is what the variable ENVOY names or what is
// in PATH. When it is missing, its ratios say "not measured".
//
// Linux only: it reads /proc.
package main
