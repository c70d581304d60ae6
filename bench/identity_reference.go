//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"syscall"
	"time"
)

// referenceCommand makes this program a server of crypto/tls that does handshakes
// and nothing else: what Tulle's cost is made of.
const referenceCommand = "handshake-server"

// reference is what the tables call it.
const reference = "crypto/tls"

// referenceServer starts it. With -profile it writes a CPU profile when it ends.
func (r *rig) referenceServer(ctx context.Context, hybrid bool) (*hop, error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := []string{self, referenceCommand, "-listen", local(ports[0]), "-identity", r.identities()}
	group := tls.X25519
	if hybrid {
		group = tls.X25519MLKEM768
		args = append(args, "-hybrid")
	}
	if r.profile != "" {
		args = append(args, "-profile", filepath.Join(r.profile, fmt.Sprintf("handshakes-%v.pprof", group)))
	}
	p, err := spawn(reference, pinned(proxyCPU), nil, args...)
	return started(ctx, reference, ports[0], p, err)
}

func referenceMain(args []string) int {
	fs := flag.NewFlagSet(referenceCommand, flag.ExitOnError)
	listen := fs.String("listen", "", "HOST:PORT")
	ids := fs.String("identity", "", "directory with cart.pem, cart-key.pem and bundle.pem")
	hybrid := fs.Bool("hybrid", false, "X25519MLKEM768 too")
	profile := fs.String("profile", "", "file for a CPU profile")
	fs.Parse(args)
	if err := referenceServe(*listen, *ids, *hybrid, *profile); err != nil {
		fmt.Fprintln(os.Stderr, referenceCommand+":", err)
		return 1
	}
	return 0
}

func referenceServe(listen, ids string, hybrid bool, profile string) error {
	cert, err := tls.LoadX509KeyPair(filepath.Join(ids, "cart.pem"), filepath.Join(ids, "cart-key.pem"))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	bundle, err := os.ReadFile(filepath.Join(ids, "bundle.pem"))
	if err != nil || !roots.AppendCertsFromPEM(bundle) {
		return fmt.Errorf("bundle.pem holds no root (%v)", err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots,
		MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true, NextProtos: []string{"http/1.1"}, CurvePreferences: []tls.CurveID{tls.X25519}}
	if hybrid {
		config.CurvePreferences = append(config.CurvePreferences, tls.X25519MLKEM768)
	}
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	go func() {
		for {
			raw, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				conn := tls.Server(raw, config)
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(10 * time.Second))
				conn.Read(make([]byte, 1)) // the handshake, then the end
			}()
		}
	}()
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	<-ended
	return ln.Close()
}
