package tsdb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/compression"
)

// Defaults and bounds.
const (
	// DefaultRetention is how long samples are kept.
	DefaultRetention = 6 * time.Hour
	// DefaultMaxBytes bounds the files of the database, write-ahead log included.
	DefaultMaxBytes = 512 << 20

	blockSpan       = time.Hour // the head is cut into blocks of this span
	walSegmentBytes = 16 << 20
	headStripes     = 1 << 10 // locks of the series map; Prometheus' default fits millions of series
	maxFamilies     = 4096    // metric families whose type and help are remembered

	maxQuerySamples = 5_000_000
	maxQueryTime    = 20 * time.Second
	maxQueries      = 8 // running at once; more wait
	// lookback is how old the newest sample may be in an instant query.
	lookback = 5 * time.Minute
)

// Config says where the database lies and how large it may grow.
type Config struct {
	// Dir is created when absent. One process may use it at a time.
	Dir string
	// Retention is how long samples are kept (DefaultRetention when zero).
	Retention time.Duration
	// MaxBytes bounds the database on disk (DefaultMaxBytes when zero); the
	// oldest blocks go first.
	MaxBytes int64
	Logger   *slog.Logger
}

// DB is an open database. It is safe for concurrent use; each Target belongs
// to one goroutine at a time.
type DB struct {
	db     *tsdb.DB
	engine *promql.Engine
	parser parser.Parser
	slots  chan struct{} // a token for each running query

	mu       sync.RWMutex
	families map[string]Family
}

// Family is what a metric family's TYPE and HELP lines say.
type Family struct {
	Type string `json:"type"`
	Help string `json:"help"`
	Unit string `json:"unit"`
}

// Open opens or creates the database. One that can't be read is set aside as
// DIR.broken, with a warning, and a new one begun: metrics are not worth a
// control plane that doesn't start.
func Open(c Config) (*DB, error) {
	if c.Retention <= 0 {
		c.Retention = DefaultRetention
	}
	if c.MaxBytes <= 0 {
		c.MaxBytes = DefaultMaxBytes
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	inner, err := open(c)
	if err != nil && !locked(err) {
		broken := c.Dir + ".broken"
		c.Logger.Warn("metrics database can't be read: set aside, beginning a new one", "error", err, "kept", broken)
		if err := os.RemoveAll(broken); err != nil {
			return nil, fmt.Errorf("metrics database: %w", err)
		}
		if err := os.Rename(c.Dir, broken); err != nil {
			return nil, fmt.Errorf("metrics database: %w", err)
		}
		inner, err = open(c)
	}
	if err != nil {
		return nil, fmt.Errorf("metrics database %s: %w", c.Dir, err)
	}
	p := parser.NewParser(parser.Options{EnableExperimentalFunctions: true})
	return &DB{
		db:     inner,
		parser: p,
		slots:  make(chan struct{}, maxQueries),
		engine: promql.NewEngine(promql.EngineOpts{
			Logger:                   c.Logger,
			MaxSamples:               maxQuerySamples,
			Timeout:                  maxQueryTime,
			LookbackDelta:            lookback,
			EnableAtModifier:         true,
			EnableNegativeOffset:     true,
			NoStepSubqueryIntervalFn: func(int64) int64 { return (5 * time.Second).Milliseconds() },
			Parser:                   p,
		}),
		families: make(map[string]Family),
	}, nil
}

func open(c Config) (*tsdb.DB, error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, err
	}
	o := tsdb.DefaultOptions()
	o.RetentionDuration = c.Retention.Milliseconds()
	o.MaxBytes = c.MaxBytes
	span := min(blockSpan, max(c.Retention/4, time.Minute))
	o.MinBlockDuration = span.Milliseconds()
	o.MaxBlockDuration = span.Milliseconds()
	o.WALSegmentSize = walSegmentBytes
	o.WALCompression = compression.Snappy
	o.StripeSize = headStripes
	o.HeadChunksWriteBufferSize = chunks.MinWriteBufferSize
	// The database tells its life at the level of debugging: blocks written,
	// segments deleted. People want only what is wrong.
	return tsdb.Open(filepath.Clean(c.Dir), quiet(c.Logger), nil, o, nil)
}

// locked reports whether another process has the directory.
func locked(err error) bool {
	return err != nil && strings.Contains(err.Error(), "lock DB directory")
}

// quiet passes warnings and errors only.
func quiet(l *slog.Logger) *slog.Logger { return slog.New(warnings{l.Handler()}) }

type warnings struct{ slog.Handler }

func (w warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && w.Handler.Enabled(ctx, level)
}

func (w warnings) WithAttrs(a []slog.Attr) slog.Handler { return warnings{w.Handler.WithAttrs(a)} }
func (w warnings) WithGroup(name string) slog.Handler   { return warnings{w.Handler.WithGroup(name)} }

// Close flushes and closes the database and stops the query engine.
func (db *DB) Close() error {
	return errors.Join(db.engine.Close(), db.db.Close())
}

// Size is what is held now.
type Size struct {
	Series uint64 // in memory
	Bytes  int64  // of blocks on disk, without the write-ahead log
	Oldest time.Time
}

// Size says how much is held; Oldest is zero in an empty database.
func (db *DB) Size() Size {
	s := Size{Series: db.db.Head().NumSeries()}
	oldest := db.db.Head().MinTime()
	for _, b := range db.db.Blocks() {
		s.Bytes += b.Size()
		oldest = min(oldest, b.Meta().MinTime)
	}
	if oldest != math.MaxInt64 {
		s.Oldest = time.UnixMilli(oldest)
	}
	return s
}
