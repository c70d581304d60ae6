// Package namespace puts a program into a network namespace of its own, from
// which every connection leads to its proxy.
//
// Start runs a helper: this same executable, once more, in new network, mount
// and (without privileges) user namespaces. A user namespace can't be entered by
// a process that has threads, so everything inside is the helper's work: it
// brings up a loopback and a dummy interface, routes every address, redirects
// TCP and DNS with nftables, points resolv.conf at the proxy's names, makes the
// proxy's sockets (run/sockets) and starts the program with the rights to change
// any of that taken away. There is no way from the namespace to another network:
// what the redirection doesn't catch goes nowhere.
//
// The executable must call Child first thing in main when IsChild says so.
//
// Inside, the program has the address 192.0.0.2 (and fd74:756c:6c65:1::2) beside
// its loopback; both stay its own. Everything else is the proxy's:
//
//	TCP to port 53, UDP to port 53   -> 127.0.0.1:15053, the Names listener
//	TCP to any other address         -> 127.0.0.1:15001, the Capture listener
//	anything else                    -> dropped; the program's send call fails
//
// The redirection belongs to the helper (nftables' owner flag): the kernel
// removes it with the helper, and the program's connections then find no way.
package namespace
