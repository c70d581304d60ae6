package meter

import "strings"

// OpenMetricsType is the media type of what WriteOpenMetrics writes.
const OpenMetricsType = "application/openmetrics-text; version=1.0.0; charset=utf-8"

// units are those of our metrics: a name ends in its unit (OpenMetrics 1.0,
// "MetricFamily Name", "Unit").
var units = []string{"seconds", "bytes"}

// openFamily begins a metric in OpenMetrics: a counter's is called without the
// "_total" of its samples.
func (w *Writer) openFamily(name string, kind Kind, help string) {
	if kind == CounterKind {
		name = strings.TrimSuffix(name, "_total")
	}
	line := func(what, text string) {
		w.b = append(w.b, "# "...)
		w.b = append(w.b, what...)
		w.b = append(w.b, ' ')
		w.b = append(w.b, name...)
		w.b = append(w.b, ' ')
		w.b = append(w.b, text...)
		w.b = append(w.b, '\n')
	}
	line("TYPE", string(kind))
	for _, unit := range units {
		if strings.HasSuffix(name, "_"+unit) {
			line("UNIT", unit)
		}
	}
	line("HELP", escapeValue.Replace(help))
}

// bound is a bucket's, as the format writes numbers in le: OpenMetrics with a point.
func (w *Writer) bound(i int) string {
	b := boundLabels[i]
	if w.open && !strings.ContainsAny(b, ".eI") {
		b += ".0"
	}
	return b
}
