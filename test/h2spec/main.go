// Command h2spec runs the conformance suite of HTTP/2 (github.com/summerwind/h2spec,
// strict) against tulle-proxy as a server: an Edge listener without TLS, then
// one with TLS. The last line is h2spec's own count of the last run; the exit
// code is 0 when every test of both passed.
//
//	h2spec TULLE TULLE-PROXY H2SPEC
//
// names the three programs. `make h2spec` builds and calls it.
package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: h2spec TULLE TULLE-PROXY H2SPEC")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "h2spec:", err)
		os.Exit(1)
	}
}

func run(tulle, proxy, h2spec string) error {
	dir, err := os.MkdirTemp("", "tulle-h2spec-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	backend, err := serve()
	if err != nil {
		return err
	}
	plain, secure, err := ports()
	if err != nil {
		return err
	}
	chain, key, err := certificate()
	if err != nil {
		return err
	}
	mesh, state := filepath.Join(dir, "mesh.yaml"), filepath.Join(dir, "edge.state")
	text := strings.NewReplacer("PLAIN", plain, "SECURE", secure, "BACKEND", backend,
		"CHAIN", base64.StdEncoding.EncodeToString(chain), "KEY", base64.StdEncoding.EncodeToString(key)).Replace(objects)
	if err := os.WriteFile(mesh, []byte(text), 0o600); err != nil {
		return err
	}
	if out, err := exec.Command(tulle, "view", "-f", mesh, "--proxy", "edge", "--state", state).CombinedOutput(); err != nil {
		return fmt.Errorf("%s view: %w\n%s", tulle, err, out)
	}
	var log bytes.Buffer
	p := exec.Command(proxy, "--state", state)
	p.Stderr = &log
	if err := p.Start(); err != nil {
		return err
	}
	stop := func() {
		p.Process.Kill()
		p.Wait()
	}
	defer stop()
	for _, port := range []string{plain, secure} {
		if err := wait(port); err != nil {
			stop()
			return fmt.Errorf("%w\n%s", err, log.Bytes())
		}
	}
	err = suite(h2spec, "-h", "127.0.0.1", "-p", plain, "-S")
	if e := suite(h2spec, "-h", "127.0.0.1", "-p", secure, "-S", "-t", "-k"); err == nil {
		err = e
	}
	return err
}

func suite(h2spec string, args ...string) error {
	fmt.Println("h2spec", strings.Join(args, " "))
	c := exec.Command(h2spec, args...)
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	return c.Run()
}

// serve is the backend: it reads each request whole before it answers, so that
// what is wrong with a body's end is seen before there is an answer.
func serve() (port string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, strings.Repeat("0123456789", 10))
	}))
	_, port, err = net.SplitHostPort(l.Addr().String())
	return port, err
}

// ports finds two that are free.
func ports() (a, b string, err error) {
	for _, p := range []*string{&a, &b} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", "", err
		}
		defer l.Close()
		_, *p, _ = net.SplitHostPort(l.Addr().String())
	}
	return a, b, nil
}

func wait(port string) error {
	deadline := time.Now().Add(10 * time.Second)
	for {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			return c.Close()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the proxy doesn't listen: %w", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func certificate() (chain, key []byte, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		return nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), nil
}

const objects = `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: tulle
  addresses: [{type: IPAddress, value: 127.0.0.1}]
  listeners:
    - {name: plain, port: PLAIN, protocol: HTTP}
    - name: secure
      port: SECURE
      protocol: HTTPS
      tls: {certificateRefs: [{name: edge}]}
---
apiVersion: v1
kind: Secret
metadata: {name: edge}
type: kubernetes.io/tls
data: {tls.crt: CHAIN, tls.key: KEY}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: edge}
spec:
  parentRefs: [{name: edge}]
  rules:
    - backendRefs: [{name: backend, port: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: backend}
spec:
  ports: [{name: http, port: 80, appProtocol: http}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: backend
  labels: {kubernetes.io/service-name: backend}
addressType: IPv4
ports: [{name: http, port: BACKEND}]
endpoints: [{addresses: [127.0.0.1]}]
`
