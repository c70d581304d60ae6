package service

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// Address is where the named service is called, "HOST:PORT".
func Address(name, port string) string {
	env := strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
	host := name
	if v := os.Getenv(env + "_SERVICE_HOST"); v != "" {
		host = v
	}
	if v := os.Getenv(env + "_SERVICE_PORT"); v != "" {
		port = v
	}
	return net.JoinHostPort(host, port)
}

// URL is the base address of the named HTTP service, without a final slash.
func URL(name string) string { return "http://" + Address(name, "8080") }

// callTimeout bounds one call from a service to another.
const callTimeout = 2 * time.Second

// Client calls the other services. Connections are kept; what HTTP proxy
// variables say is followed.
var Client = &http.Client{
	Timeout: callTimeout,
	Transport: &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: time.Second}).DialContext,
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     30 * time.Second,
	},
}

// maxReply bounds what is read of an answer, in bytes.
const maxReply = 1 << 20

// Call sends in (unless nil) as JSON and reads the answer into out (unless
// nil). An answer other than 2xx is a *StatusError.
func Call(ctx context.Context, method, url string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := Client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	reply, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, url, err)
	}
	if resp.StatusCode/100 != 2 {
		return &StatusError{URL: url, Code: resp.StatusCode, Text: strings.TrimSpace(string(reply))}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(reply, out); err != nil {
		return fmt.Errorf("%s %s: %w", method, url, err)
	}
	return nil
}

// StatusError is an answer that isn't 2xx.
type StatusError struct {
	URL  string
	Code int
	Text string
}

func (e *StatusError) Error() string { return fmt.Sprintf("%s answered %d: %s", e.URL, e.Code, e.Text) }

// Reply writes v as JSON.
func Reply(w http.ResponseWriter, code int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	w.Write(append(b, '\n'))
}

// Fail tells the caller about err: a refusal of ours as it is, anything that
// another service said as 502.
func Fail(w http.ResponseWriter, err error) {
	code := http.StatusBadGateway
	if se := (*StatusError)(nil); errors.As(err, &se) && se.Code/100 == 4 {
		code = se.Code
	}
	http.Error(w, err.Error(), code)
}

// drainTimeout bounds how long requests in flight may take after a stop.
const drainTimeout = 5 * time.Second

// Serve serves h on listen until ctx ends, then lets requests in flight finish.
// /healthz is answered here.
func Serve(ctx context.Context, log *slog.Logger, listen string, h http.Handler) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	mux.Handle("/", h)
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	log.Info("listening", "address", ln.Addr().String())
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(ln) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	return srv.Shutdown(stop)
}
