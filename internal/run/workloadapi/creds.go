package workloadapi

import (
	"context"
	"errors"
	"net"

	"google.golang.org/grpc/credentials"
)

// userOnly takes connections as they are, and notes whose they are.
type userOnly struct{}

// caller is what is known of a connection.
type caller struct {
	credentials.CommonAuthInfo
	allowed bool
}

// AuthType implements credentials.AuthInfo.
func (caller) AuthType() string { return "user" }

func (userOnly) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("for servers only")
}

func (userOnly) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c, caller{credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}, sameUser(c)}, nil
}

func (userOnly) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "user"}
}
func (userOnly) Clone() credentials.TransportCredentials { return userOnly{} }
func (userOnly) OverrideServerName(string) error         { return nil }
