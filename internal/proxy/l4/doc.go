// Package l4 carries bytes it doesn't look at: opaque TCP, and what HTTP
// becomes after CONNECT or an upgrade.
//
// Two connections of one loop go in (Join); bytes go both ways at constant
// memory, each direction held up by its receiver, each ended when its sender
// ended it (half-close), until both have ended or one breaks. Between two plain
// sockets a stream that is long enough is spliced (loop.Relay), not copied.
//
// Who calls it: l7http after a tunnel was agreed on, and the assembly in proxy
// for TCP, through Dial.
package l4
