// Package control is the codec of the conversation between a proxy and the
// control plane: the messages of api/proto/control.proto in protobuf's wire
// format. It holds no sockets, goroutines or clocks. proxy/live speaks it from
// one side, control/push from the other.
package control
