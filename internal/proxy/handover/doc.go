// Package handover lets a proxy take the place of one that runs, on the same
// machine and for the same workload, with no connection refused: an upgrade. The
// successor gets the predecessor's listening sockets, so that the kernel's queues
// of connections stay what they are.
//
// In comes a Unix socket of the proxy that runs, which only its own user can open;
// out go, over it, descriptors of every listening socket, the number of loops that
// they were made for and the name under which the control plane knows the process.
// The two then talk once more:
//
//	successor                        predecessor
//	take                      ->
//	                          <-     sockets, in one or more messages
//	opens them, is ready
//	started                   ->
//	                          <-     gone: it has left the control plane and its
//	                                 admin listener, and drains from here on
//	goes to the control plane
//
// Until "started" nothing has changed for the predecessor: a successor that fails
// before just goes away. A predecessor that won't go says why; one that is killed
// once the successor has the sockets is gone without a word, and the successor, who
// then has the only ones, goes on alone: no connection in their queues is lost.
// cmd/tulle-proxy calls both sides.
//
// The messages travel in packets (SOCK_SEQPACKET), which not every system has:
// Listen and Take then return its error.
package handover
