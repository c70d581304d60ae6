package tsdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
)

// MaxSeries bounds the series of one target; the rest of its text is refused.
const MaxSeries = 50_000

// zeroReach is how far back a process may have started for its counters' zero
// to be stored when it is scraped for the first time.
const zeroReach = 5 * time.Minute

// Target is one proxy's series: what was appended last, so that a series which
// is no longer exposed is marked stale. It belongs to one goroutine at a time.
type Target struct {
	db     *DB
	labels map[string]string
	series map[string]*series // by the series' text in the exposition
	own    map[string]*series // up and scrape_*
	round  uint64
	last   time.Time // of the last good scrape; zero when the one before failed
}

type series struct {
	ref    storage.SeriesRef
	labels labels.Labels
	round  uint64
}

// Target begins a target whose series all get these labels; a label of the same
// name that the target exposes is renamed exported_NAME.
func (db *DB) Target(l map[string]string) *Target {
	return &Target{db: db, labels: maps.Clone(l), series: make(map[string]*series), own: make(map[string]*series)}
}

// Append stores one exposition, in the text format of the content type
// (Prometheus' own when empty or unknown), as scraped at a time that never goes
// back; took is how long the scrape lasted. It stores all of the text or, when
// a line of it is malformed, nothing but up=0. It returns the count of samples.
func (t *Target) Append(ctx context.Context, text []byte, contentType string, at time.Time, took time.Duration) (int, error) {
	n, err := t.append(ctx, text, contentType, at, took)
	if err != nil {
		return 0, errors.Join(err, t.Fail(ctx, at, took))
	}
	return n, nil
}

func (t *Target) append(ctx context.Context, text []byte, contentType string, at time.Time, took time.Duration) (n int, err error) {
	p, err := textparse.New(text, contentType, labels.NewSymbolTable(), textparse.ParserOptions{FallbackContentType: "text/plain"})
	if p == nil {
		return 0, fmt.Errorf("metrics of content type %q: %w", contentType, err)
	}
	app := t.db.db.AppenderV2(ctx)
	defer func() {
		if err != nil {
			_ = app.Rollback()
		}
	}()
	t.round++
	now := at.UnixMilli()
	zero := t.zeroTime(text, at)
	var family []byte
	var cumulative bool
	families := map[string]Family{}
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, fmt.Errorf("metrics: %w", err)
		}
		switch entry {
		case textparse.EntryType:
			name, typ := p.Type()
			family = append(family[:0], name...)
			cumulative = typ == model.MetricTypeCounter || typ == model.MetricTypeHistogram || typ == model.MetricTypeSummary
			f := families[string(name)]
			f.Type = string(typ)
			families[string(name)] = f
		case textparse.EntryHelp:
			name, help := p.Help()
			f := families[string(name)]
			f.Help = string(help)
			families[string(name)] = f
		case textparse.EntrySeries:
			raw, _, v := p.Series()
			s, known := t.series[string(raw)]
			if !known {
				if len(t.series) >= MaxSeries {
					return 0, fmt.Errorf("metrics: more than %d series", MaxSeries)
				}
				s = &series{labels: t.label(p)}
				t.series[string(raw)] = s
			}
			if !known && cumulative && zero != 0 && bytes.HasPrefix(raw, family) {
				// The store refuses a zero older than what it has of this series:
				// then the series isn't new, and nothing is missing.
				if ref, err := app.Append(0, s.labels, 0, zero, 0, nil, nil, storage.AOptions{RejectOutOfOrder: true}); err == nil {
					s.ref = ref
				}
			}
			if err := t.store(app, s, now, v); err != nil {
				return 0, fmt.Errorf("metrics: series %s: %w", raw, err)
			}
			s.round = t.round
			n++
		}
	}
	for raw, s := range t.series {
		if s.round != t.round {
			if err := t.store(app, s, now, stale()); err != nil {
				return 0, err
			}
			delete(t.series, raw)
		}
	}
	if err := t.report(app, now, 1, took, float64(n)); err != nil {
		return 0, err
	}
	if err := app.Commit(); err != nil {
		return 0, fmt.Errorf("metrics: %w", err)
	}
	t.last = at
	t.db.remember(families)
	return n, nil
}

// Fail records that a target couldn't be scraped: up is 0, its series are stale.
func (t *Target) Fail(ctx context.Context, at time.Time, took time.Duration) error {
	t.last = time.Time{}
	return t.end(ctx, at, func(app storage.AppenderV2) error { return t.report(app, at.UnixMilli(), 0, took, 0) })
}

// Close records that a target is gone: all of its series end here.
func (t *Target) Close(ctx context.Context, at time.Time) error {
	return t.end(ctx, at, func(app storage.AppenderV2) error {
		for _, s := range t.own {
			if err := t.store(app, s, at.UnixMilli(), stale()); err != nil {
				return err
			}
		}
		clear(t.own)
		return nil
	})
}

func (t *Target) end(ctx context.Context, at time.Time, more func(storage.AppenderV2) error) error {
	app := t.db.db.AppenderV2(ctx)
	for _, s := range t.series {
		if err := t.store(app, s, at.UnixMilli(), stale()); err != nil {
			return errors.Join(err, app.Rollback())
		}
	}
	if err := more(app); err != nil {
		return errors.Join(err, app.Rollback())
	}
	clear(t.series)
	if err := app.Commit(); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}

// report stores what Prometheus itself says about each scrape.
func (t *Target) report(app storage.AppenderV2, now int64, up float64, took time.Duration, samples float64) error {
	for name, v := range map[string]float64{"up": up, "scrape_duration_seconds": took.Seconds(), "scrape_samples_scraped": samples} {
		s := t.own[name]
		if s == nil {
			b := labels.NewBuilder(labels.FromMap(t.labels))
			s = &series{labels: b.Set(labels.MetricName, name).Labels()}
			t.own[name] = s
		}
		if err := t.store(app, s, now, v); err != nil {
			return err
		}
	}
	return nil
}

// store appends one sample. A sample at or before the series' last one, as after
// the clock was set back, is dropped: the others are worth keeping.
func (t *Target) store(app storage.AppenderV2, s *series, now int64, v float64) error {
	ref, err := app.Append(s.ref, s.labels, 0, now, v, nil, nil, storage.AOptions{RejectOutOfOrder: true})
	switch {
	case err == nil:
		s.ref = ref
	case errors.Is(err, storage.ErrOutOfOrderSample), errors.Is(err, storage.ErrDuplicateSampleForTimestamp),
		errors.Is(err, storage.ErrOutOfBounds), errors.Is(err, storage.ErrTooOldSample):
	default:
		return err
	}
	return nil
}

// label is the current series' labels with the target's added.
func (t *Target) label(p textparse.Parser) labels.Labels {
	var exposed labels.Labels
	p.Labels(&exposed)
	b := labels.NewBuilder(exposed)
	for name, v := range t.labels {
		if old := exposed.Get(name); old != "" {
			b.Set("exported_"+name, old)
		}
		b.Set(name, v)
	}
	// The parser's strings lie in the text, which the caller may use again.
	return b.Labels().Copy()
}

// zeroTime is when counters that are new in this scrape were zero for certain:
// at the scrape before, or when the process started, if that isn't long ago.
// It is 0 when nothing is certain.
func (t *Target) zeroTime(text []byte, at time.Time) int64 {
	if !t.last.IsZero() {
		return t.last.UnixMilli()
	}
	started, ok := processStart(text)
	if !ok || at.Sub(started) > zeroReach || !started.Before(at) {
		return 0
	}
	return started.UnixMilli()
}

func processStart(text []byte) (time.Time, bool) {
	const name = "\nprocess_start_time_seconds "
	_, rest, ok := bytes.Cut(text, []byte(name))
	if !ok {
		return time.Time{}, false
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	number, _, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
	seconds, err := strconv.ParseFloat(number, 64)
	if err != nil || seconds <= 0 || seconds > 1e11 {
		return time.Time{}, false
	}
	return time.UnixMilli(int64(seconds * 1000)), true
}

func stale() float64 { return math.Float64frombits(value.StaleNaN) }

func (db *DB) remember(families map[string]Family) {
	db.mu.Lock()
	defer db.mu.Unlock()
	for name, f := range families {
		if _, known := db.families[name]; known || len(db.families) < maxFamilies {
			db.families[name] = f
		}
	}
}
