package tsdb

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var begin = time.UnixMilli(1_800_000_000_000)

func openDB(t *testing.T, dir string) *DB {
	t.Helper()
	db, err := Open(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func openTemp(t *testing.T) *DB {
	t.Helper()
	db := openDB(t, t.TempDir())
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// ask evaluates an expression so many seconds after the beginning, as
// "LABELS VALUE" a line.
func ask(t *testing.T, db *DB, expr string, seconds float64) string {
	t.Helper()
	v, err := db.Instant(context.Background(), expr, begin.Add(time.Duration(seconds*float64(time.Second))))
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	var lines []string
	for _, s := range v.Series {
		lines = append(lines, fmt.Sprintf("%v %v", s.Labels, s.Points[0].V))
	}
	return strings.Join(lines, "\n")
}

func scrape(t *testing.T, target *Target, seconds float64, text string) {
	t.Helper()
	if _, err := target.Append(context.Background(), []byte(text), "text/plain; version=0.0.4", begin.Add(time.Duration(seconds*float64(time.Second))), 3*time.Millisecond); err != nil {
		t.Fatal(err)
	}
}

func TestAppendAddsLabels(t *testing.T) {
	db := openTemp(t)
	web := db.Target(map[string]string{"proxy": "web", "namespace": "default"})
	scrape(t, web, 0, "# HELP a_total Some.\n# TYPE a_total counter\na_total{x=\"1\",proxy=\"mine\"} 7\n")
	want := `map[__name__:a_total exported_proxy:mine namespace:default proxy:web x:1] 7`
	if got := ask(t, db, "a_total", 1); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for expr, want := range map[string]string{
		"up":                      `map[__name__:up namespace:default proxy:web] 1`,
		"scrape_duration_seconds": `map[__name__:scrape_duration_seconds namespace:default proxy:web] 0.003`,
		"scrape_samples_scraped":  `map[__name__:scrape_samples_scraped namespace:default proxy:web] 1`,
	} {
		if got := ask(t, db, expr, 1); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	if diff := cmp.Diff(map[string]Family{"a_total": {Type: "counter", Help: "Some."}}, db.Families()); diff != "" {
		t.Errorf("families (-want +got):\n%s", diff)
	}
}

func TestSeriesEnd(t *testing.T) {
	db := openTemp(t)
	ctx := context.Background()
	web := db.Target(map[string]string{"proxy": "web"})
	scrape(t, web, 0, "# TYPE a gauge\na{x=\"1\"} 1\na{x=\"2\"} 2\n")
	scrape(t, web, 2, "# TYPE a gauge\na{x=\"2\"} 3\n")
	if got, want := ask(t, db, "a", 2.5), `map[__name__:a proxy:web x:2] 3`; got != want {
		t.Errorf("no longer exposed:\ngot  %s\nwant %s", got, want)
	}
	if err := web.Fail(ctx, begin.Add(4*time.Second), time.Second); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, db, "a", 4.5); got != "" {
		t.Errorf("after a failed scrape: %s", got)
	}
	if got, want := ask(t, db, "up", 4.5), `map[__name__:up proxy:web] 0`; got != want {
		t.Errorf("after a failed scrape: got %s, want %s", got, want)
	}
	scrape(t, web, 6, "# TYPE a gauge\na{x=\"2\"} 4\n")
	if got, want := ask(t, db, "a", 6.5), `map[__name__:a proxy:web x:2] 4`; got != want {
		t.Errorf("back again: got %s, want %s", got, want)
	}
	if err := web.Close(ctx, begin.Add(8*time.Second)); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, db, `{proxy="web"}`, 8.5); got != "" {
		t.Errorf("after the target went: %s", got)
	}
}

func TestZeroOfNewCounters(t *testing.T) {
	started := fmt.Sprintf("# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds %d\n", begin.Add(-10*time.Second).Unix())
	old := fmt.Sprintf("# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds %d\n", begin.Add(-time.Hour).Unix())
	tests := []struct {
		name    string
		scrapes []string // two seconds apart, from the beginning
		want    string   // increase over the minute, at the last one
	}{
		{"seen before, then new", []string{old, old + "# TYPE a_total counter\na_total 5\n"}, "map[] 5"},
		{"first scrape of a young process", []string{"# TYPE a_total counter\na_total 5\n" + started}, "map[] 5"},
		{"first scrape of an old process", []string{"# TYPE a_total counter\na_total 5\n" + old, "# TYPE a_total counter\na_total 6\n" + old}, "map[] 1"},
		{"a gauge has no zero", []string{old, old + "# TYPE a_total gauge\na_total 5\n"}, ""},
		{"no type, no zero", []string{old, old + "a_total 5\n"}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			db := openTemp(t)
			web := db.Target(nil)
			for i, text := range test.scrapes {
				scrape(t, web, float64(2*i), text)
			}
			got := ask(t, db, "sum(increase(a_total[1m] anchored)) > 0", float64(2*len(test.scrapes)-2))
			if got != test.want {
				t.Errorf("increase %q, want %q", got, test.want)
			}
		})
	}
}

// A failed scrape between leaves no zero that would be counted twice.
func TestNoZeroTwice(t *testing.T) {
	db := openTemp(t)
	web := db.Target(nil)
	text := "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds " + fmt.Sprint(begin.Add(-time.Second).Unix()) + "\n# TYPE a_total counter\na_total "
	scrape(t, web, 0, text+"5\n")
	if err := web.Fail(context.Background(), begin.Add(2*time.Second), 0); err != nil {
		t.Fatal(err)
	}
	scrape(t, web, 4, text+"7\n")
	if got, want := ask(t, db, "increase(a_total[1m] anchored)", 4), "map[] 7"; got != want {
		t.Errorf("increase %s, want %s", got, want)
	}
}

func TestMalformedScrape(t *testing.T) {
	for _, text := range []string{"a 1\nb{ 2\n", "a one\n", "<html>", "a{x=\"1} 2\n"} {
		db := openTemp(t)
		web := db.Target(map[string]string{"proxy": "web"})
		if _, err := web.Append(context.Background(), []byte(text), "text/plain", begin, 0); err == nil {
			t.Errorf("%q: no error", text)
		}
		if got, want := ask(t, db, `{proxy="web",__name__!~"scrape.*"}`, 1), `map[__name__:up proxy:web] 0`; got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

func TestTooManySeries(t *testing.T) {
	db := openTemp(t)
	web := db.Target(nil)
	var b strings.Builder
	for i := range MaxSeries + 1 {
		fmt.Fprintf(&b, "a{x=\"%d\"} 1\n", i)
	}
	_, err := web.Append(context.Background(), []byte(b.String()), "", begin, 0)
	if err == nil || !strings.Contains(err.Error(), "more than 50000 series") {
		t.Errorf("error %v", err)
	}
	// The target still works when it exposes less.
	scrape(t, web, 2, "a 1\n")
	if got := ask(t, db, "a", 2); got != "map[__name__:a] 1" {
		t.Errorf("afterwards: %s", got)
	}
}

// The clock set back loses samples, not the scrape.
func TestClockSetBack(t *testing.T) {
	db := openTemp(t)
	web := db.Target(nil)
	scrape(t, web, 10, "a 1\n")
	scrape(t, web, 5, "a 2\n")
	scrape(t, web, 12, "a 3\n")
	if got := ask(t, db, "a", 12); got != "map[__name__:a] 3" {
		t.Error(got)
	}
}

func TestRestart(t *testing.T) {
	dir := t.TempDir()
	db := openDB(t, dir)
	scrape(t, db.Target(nil), 0, "# TYPE a_total counter\na_total 5\n")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = openDB(t, dir)
	scrape(t, db.Target(nil), 4, "# TYPE a_total counter\na_total 9\n")
	if got, want := ask(t, db, "increase(a_total[1m] anchored)", 4), "map[] 4"; got != want {
		t.Errorf("increase over the restart: %s, want %s", got, want)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestBrokenDatabaseIsSetAside(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "metrics")
	if err := os.MkdirAll(filepath.Join(dir, "wal"), 0o700); err != nil {
		t.Fatal(err)
	}
	// A file where a folder of chunks must be can't be opened.
	if err := os.WriteFile(filepath.Join(dir, "chunks_head"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	db := openDB(t, dir)
	scrape(t, db.Target(nil), 0, "a 1\n")
	if got := ask(t, db, "a", 1); got != "map[__name__:a] 1" {
		t.Error(got)
	}
	if _, err := os.Stat(dir + ".broken/chunks_head"); err != nil {
		t.Errorf("the broken database isn't kept: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// Another process' database is not set aside.
func TestLockedDatabase(t *testing.T) {
	dir := t.TempDir()
	db := openDB(t, dir)
	defer db.Close()
	if _, err := Open(Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), "lock") {
		t.Errorf("error %v, want one about the lock", err)
	}
	if _, err := os.Stat(dir + ".broken"); err == nil {
		t.Error("it was set aside")
	}
}

func TestSize(t *testing.T) {
	db := openTemp(t)
	if s := db.Size(); !s.Oldest.IsZero() || s.Series != 0 {
		t.Errorf("empty: %+v", s)
	}
	scrape(t, db.Target(nil), 0, "a 1\n")
	if s := db.Size(); !s.Oldest.Equal(begin) || s.Series != 4 {
		t.Errorf("one scrape: %+v, want 4 series from %v", s, begin)
	}
}

func TestFormatFloat(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 1.5: "1.5", 1e-7: "1e-07", 1e20: "100000000000000000000", 1e21: "1e+21", math.Inf(1): "+Inf", math.Inf(-1): "-Inf"} {
		if got := formatFloat(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
	if got := formatFloat(math.NaN()); got != "NaN" {
		t.Errorf("NaN: %s", got)
	}
}

// FuzzAppend: no text of a proxy's may break the database or lose an answer.
func FuzzAppend(f *testing.F) {
	f.Add([]byte("# HELP a A.\n# TYPE a counter\na{b=\"c\"} 1 1800000000000\n"), "text/plain; version=0.0.4")
	f.Add([]byte("# TYPE a histogram\na_bucket{le=\"1\"} 1\na_bucket{le=\"+Inf\"} 2\na_sum 3\na_count 2\n"), "")
	f.Add([]byte("# TYPE a counter\na_total 1 # {trace=\"x\"} 1\n# EOF\n"), "application/openmetrics-text; version=1.0.0")
	f.Add([]byte("process_start_time_seconds 1.8e9\n"), "text/plain")
	f.Add([]byte("\nprocess_start_time_seconds NaN\na{a=\"\\xff\"} NaN\n"), "text/plain")
	db, err := Open(Config{Dir: f.TempDir()})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = db.Close() })
	at := begin
	f.Fuzz(func(t *testing.T, text []byte, contentType string) {
		target := db.Target(map[string]string{"proxy": "web"})
		ctx := context.Background()
		for range 2 {
			at = at.Add(time.Millisecond)
			n, err := target.Append(ctx, text, contentType, at, 0)
			if err != nil && n != 0 {
				t.Errorf("%d samples and error %v", n, err)
			}
			want := "1"
			if err != nil {
				want = "0"
			}
			v, askErr := db.Instant(ctx, `up{proxy="web"}`, at)
			if askErr != nil || len(v.Series) != 1 || formatFloat(v.Series[0].Points[0].V) != want {
				t.Errorf("up is %v (%v), want %s", v, askErr, want)
			}
		}
		at = at.Add(time.Millisecond)
		if err := target.Close(ctx, at); err != nil {
			t.Error(err)
		}
	})
}
