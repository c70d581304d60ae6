package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"tulle.dev/tulle/internal/telemetry/tsdb"
)

// Defaults and bounds.
const (
	// DefaultInterval is the pace of scraping up to manyTargets targets.
	DefaultInterval = 2 * time.Second
	// MaxInterval is the slowest pace, however many targets there are.
	MaxInterval = 30 * time.Second
	// MaxBody bounds the text of one scrape.
	MaxBody = 8 << 20

	manyTargets   = 100 // each further hundred slows the pace by one interval
	concurrent    = 16  // scrapes at once
	scrapeTimeout = 5 * time.Second
	acceptHeader  = "text/plain;version=0.0.4;q=1,*/*;q=0.1"
)

// Target is one proxy to scrape.
type Target struct {
	// Proxy and Namespace name it, and become labels of all its series.
	Proxy, Namespace string
	// URL is where its metrics are, such as "http://admin/metrics".
	URL string
	// Client carries the request: over a Unix socket, or mutual TLS. The
	// default client when nil.
	Client *http.Client
}

type key struct{ namespace, proxy string }

// Config says what to scrape and where to put it.
type Config struct {
	// Targets lists the targets now. It is called once a round and must not block.
	Targets func() []Target
	DB      *tsdb.DB
	// Interval is the pace (DefaultInterval when zero).
	Interval time.Duration
	// Now is the clock; time.Now when nil.
	Now    func() time.Time
	Logger *slog.Logger
}

// Scraper scrapes until it is stopped. Run owns the targets; Health may be
// called from anywhere.
type Scraper struct {
	config  Config
	buffers sync.Pool
	targets map[key]*target // owned by the goroutine in round

	mu     sync.Mutex
	health map[key]Health
}

type target struct {
	Target
	series *tsdb.Target
	failed bool // the last scrape failed: logged once, not every two seconds
}

// Health is how the last scrape of a target went.
type Health struct {
	Proxy, Namespace string
	At               time.Time
	Took             time.Duration
	Samples          int
	Err              error // nil when it went well
}

// New makes a scraper; Run starts it.
func New(c Config) *Scraper {
	if c.Interval <= 0 {
		c.Interval = DefaultInterval
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Scraper{
		config:  c,
		buffers: sync.Pool{New: func() any { return new(bytes.Buffer) }},
		targets: make(map[key]*target),
		health:  make(map[key]Health),
	}
}

// Run scrapes all targets at once and then at the pace, until the context ends.
func (s *Scraper) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		begin := time.Now()
		s.Round(ctx)
		timer.Reset(max(0, s.pace(len(s.targets))-time.Since(begin)))
	}
}

// pace is the time between two rounds over n targets.
func (s *Scraper) pace(n int) time.Duration {
	slower := time.Duration(max(0, n-1)/manyTargets) * s.config.Interval
	return max(s.config.Interval, min(MaxInterval, s.config.Interval+slower))
}

// Round scrapes every target once and ends the series of those that went. It
// returns when all are done; rounds must not overlap.
func (s *Scraper) Round(ctx context.Context) {
	s.follow(ctx)
	slots := make(chan struct{}, concurrent)
	var wait sync.WaitGroup
	for k, t := range s.targets {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			s.scrape(ctx, k, t)
		})
	}
	wait.Wait()
}

// follow takes up new targets and lets go of those no longer listed.
func (s *Scraper) follow(ctx context.Context) {
	listed := make(map[key]bool)
	for _, want := range s.config.Targets() {
		k := key{want.Namespace, want.Proxy}
		listed[k] = true
		if t := s.targets[k]; t != nil {
			t.Target = want
			continue
		}
		s.targets[k] = &target{Target: want, series: s.config.DB.Target(map[string]string{
			"proxy": want.Proxy, "namespace": want.Namespace,
		})}
	}
	for k, t := range s.targets {
		if listed[k] {
			continue
		}
		if err := t.series.Close(ctx, s.config.Now()); err != nil {
			s.config.Logger.Warn("metrics of a proxy that went can't be ended", "proxy", t.Proxy, "namespace", t.Namespace, "error", err)
		}
		delete(s.targets, k)
		s.mu.Lock()
		delete(s.health, k)
		s.mu.Unlock()
	}
}

func (s *Scraper) scrape(ctx context.Context, k key, t *target) {
	buffer := s.buffers.Get().(*bytes.Buffer)
	defer s.buffers.Put(buffer)
	buffer.Reset()
	at, begin := s.config.Now(), time.Now()
	contentType, err := fetch(ctx, t.Target, buffer)
	took := time.Since(begin)
	if ctx.Err() != nil {
		return // stopping says nothing about the target
	}
	samples := 0
	if err == nil {
		samples, err = t.series.Append(ctx, buffer.Bytes(), contentType, at, took)
	} else if storeErr := t.series.Fail(ctx, at, took); storeErr != nil {
		err = errors.Join(err, storeErr)
	}
	if failed := err != nil; failed != t.failed {
		t.failed = failed
		if failed {
			s.config.Logger.Warn("proxy's metrics can't be scraped", "proxy", t.Proxy, "namespace", t.Namespace, "error", err)
		} else {
			s.config.Logger.Info("proxy's metrics are scraped again", "proxy", t.Proxy, "namespace", t.Namespace)
		}
	}
	s.mu.Lock()
	s.health[k] = Health{Proxy: t.Proxy, Namespace: t.Namespace, At: at, Took: took, Samples: samples, Err: err}
	s.mu.Unlock()
}

// fetch reads one target's text into the buffer and returns its content type.
func fetch(ctx context.Context, t Target, into *bytes.Buffer) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, scrapeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, t.URL, nil)
	if err != nil {
		return "", err
	}
	request.Header.Set("Accept", acceptHeader)
	client := t.Client
	if client == nil {
		client = http.DefaultClient
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s answered %s, want 200 OK", t.URL, response.Status)
	}
	n, err := into.ReadFrom(io.LimitReader(response.Body, MaxBody+1))
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", t.URL, err)
	}
	if n > MaxBody {
		return "", fmt.Errorf("%s: more than %d bytes of metrics", t.URL, MaxBody)
	}
	return response.Header.Get("Content-Type"), nil
}

// Health tells how the last scrape of each target went, by namespace and name.
func (s *Scraper) Health() []Health {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Health, 0, len(s.health))
	for _, h := range s.health {
		list = append(list, h)
	}
	slices.SortFunc(list, func(a, b Health) int {
		if a.Namespace != b.Namespace {
			return strings.Compare(a.Namespace, b.Namespace)
		}
		return strings.Compare(a.Proxy, b.Proxy)
	})
	return list
}
