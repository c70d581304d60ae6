package store

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	// Quota is the size the embedded etcd's data may reach, bytes.
	Quota = 256 << 20
	// keptRevisions is how far back a watch of the embedded etcd may begin.
	keptRevisions = "5000"
	clientSocket  = "client.sock"
	peerSocket    = "peer.sock"
	// maxSocketPath is what every system takes as a Unix socket's path.
	maxSocketPath = 103
)

// quota is Quota, except in tests.
var quota int64 = Quota

// ServeEtcd runs the embedded etcd in this process, with its data and sockets
// in dir, until the context ends or stdin (a pipe held by the parent) does. It
// is the whole of the hidden command `tulle etcd --dir DIR`.
func ServeEtcd(ctx context.Context, dir string, parent io.Reader) error {
	c := embed.NewConfig()
	c.Name = "tulle"
	c.Dir = filepath.Join(dir, "data")
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(zapcore.NewCore(
		zapcore.NewConsoleEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(os.Stderr), zap.ErrorLevel)))
	client := url.URL{Scheme: "unix", Path: filepath.Join(dir, clientSocket)}
	peer := url.URL{Scheme: "unix", Path: filepath.Join(dir, peerSocket)}
	for _, u := range []url.URL{client, peer} {
		if err := os.Remove(u.Path); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("etcd's old socket: %w", err)
		}
	}
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	c.InitialCluster = c.Name + "=" + peer.String()
	c.AutoCompactionMode, c.AutoCompactionRetention = embed.CompactorModeRevision, keptRevisions
	c.QuotaBackendBytes = quota
	c.SnapshotCount = 5000
	// One member elects itself: no reason to wait long.
	c.TickMs, c.ElectionMs = 50, 250
	e, err := embed.StartEtcd(c)
	if err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	defer e.Close()
	gone := make(chan struct{})
	go func() {
		io.Copy(io.Discard, parent) // ends with the parent, or the process does
		close(gone)
	}()
	select {
	case <-ctx.Done():
		return nil
	case <-gone:
		return nil
	case <-e.Server.StopNotify():
		return fmt.Errorf("etcd stopped")
	case err := <-e.Err():
		return fmt.Errorf("etcd: %w", err)
	}
}
