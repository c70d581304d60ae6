package meter

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// ContentType is the media type of what WriteText writes.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// Writer builds Prometheus text, or OpenMetrics. Family comes first, then its
// samples. A counter's name ends in "_total".
type Writer struct {
	b    []byte
	name string
	open bool // it is OpenMetrics
}

// Kind is a metric's type as Prometheus names it.
type Kind string

// The kinds of metrics.
const (
	CounterKind   Kind = "counter"
	GaugeKind     Kind = "gauge"
	HistogramKind Kind = "histogram"
)

// Family begins a metric.
func (w *Writer) Family(name string, kind Kind, help string) {
	w.name = name
	if w.open {
		w.openFamily(name, kind, help)
		return
	}
	w.b = append(w.b, "# HELP "...)
	w.b = append(w.b, name...)
	w.b = append(w.b, ' ')
	w.b = append(w.b, escapeHelp.Replace(help)...)
	w.b = append(w.b, "\n# TYPE "...)
	w.b = append(w.b, name...)
	w.b = append(w.b, ' ')
	w.b = append(w.b, kind...)
	w.b = append(w.b, '\n')
}

// Sample writes a sample of the family; labels are name, value, name, value.
func (w *Writer) Sample(v float64, labels ...string) {
	w.head("", labels)
	w.b = strconv.AppendFloat(w.b, v, 'g', -1, 64)
	w.b = append(w.b, '\n')
}

// Count is Sample for a whole number, exact above 2^53.
func (w *Writer) Count(n uint64, labels ...string) { w.count("", n, labels) }

func (w *Writer) count(suffix string, n uint64, labels []string) {
	w.head(suffix, labels)
	w.b = strconv.AppendUint(w.b, n, 10)
	w.b = append(w.b, '\n')
}

func (w *Writer) head(suffix string, labels []string) {
	w.b = append(w.b, w.name...)
	w.b = append(w.b, suffix...)
	for i := 0; i+1 < len(labels); i += 2 {
		if i == 0 {
			w.b = append(w.b, '{')
		} else {
			w.b = append(w.b, ',')
		}
		w.b = append(w.b, labels[i]...)
		w.b = append(w.b, `="`...)
		w.b = append(w.b, escapeValue.Replace(labels[i+1])...)
		w.b = append(w.b, '"')
	}
	if len(labels) > 0 {
		w.b = append(w.b, '}')
	}
	w.b = append(w.b, ' ')
}

var (
	escapeHelp  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	escapeValue = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
)

// boundLabels are the values of the label le.
var boundLabels = func() (l [bounds + 1]string) {
	for i := range bounds {
		l[i] = strconv.FormatFloat(float64(boundNanoseconds(i))/1e9, 'g', -1, 64)
	}
	l[bounds] = "+Inf"
	return l
}()

// total is one series over all shards.
type total struct {
	labels    Labels
	protocols [protocols]uint64
	open      uint64
	received  uint64
	sent      uint64
	statuses  map[uint32]uint64 // 0: other
	buckets   [bounds + 1]uint64
	sum       uint64
}

func (t *total) add(h *Traffic) {
	// Closed first: a connection must not count as closed before it is open.
	closed := h.closed.n.Load()
	var opened uint64
	for p := range h.protocols {
		n := h.protocols[p].n.Load()
		opened += n
		t.protocols[p] += n
	}
	t.open += opened - min(closed, opened)
	t.received += h.received.n.Load()
	t.sent += h.sent.n.Load()
	for i := range h.statuses {
		if n := h.statuses[i].n.n.Load(); n > 0 {
			code := h.statuses[i].code.Load()
			if code == 0 && i < maxStatuses {
				continue // being taken right now
			}
			t.statuses[code] += n
		}
	}
	for i := range h.duration.buckets {
		t.buckets[i] += h.duration.buckets[i].n.Load()
	}
	t.sum += h.duration.sum.n.Load()
}

func (t *total) pairs(more ...string) []string {
	return append([]string{
		"direction", t.labels.Direction.String(),
		"service", t.labels.Service,
		"peer", t.labels.Peer,
		"tls", t.labels.TLS.String(),
	}, more...)
}

func compareLabels(a, b *total) int {
	return cmp.Or(
		cmp.Compare(a.labels.Direction, b.labels.Direction),
		cmp.Compare(a.labels.Service, b.labels.Service),
		cmp.Compare(a.labels.Peer, b.labels.Peer),
		cmp.Compare(a.labels.TLS, b.labels.TLS),
	)
}

// sum adds the shards up, in a stable order.
func (r *Registry) sum() []*total {
	byLabels := make(map[Labels]*total)
	for _, s := range r.shards {
		s.mu.Lock()
		list := s.list
		s.mu.Unlock()
		for _, h := range list {
			t := byLabels[h.labels]
			if t == nil {
				t = &total{labels: h.labels, statuses: make(map[uint32]uint64)}
				byLabels[h.labels] = t
			}
			t.add(h)
		}
	}
	return slices.SortedFunc(maps.Values(byLabels), compareLabels)
}

func (r *Registry) write(w *Writer) {
	r.writeTraffic(w, r.sum())
	r.writeRoutes(w)
	r.writeCounters(w)
	r.writeRateLimits(w)
	r.writeState(w)
	r.mu.Lock()
	collectors := r.collectors
	r.mu.Unlock()
	for _, f := range collectors {
		f(w)
	}
	writeProcess(w, r.start)
}

func (r *Registry) writeTraffic(w *Writer, totals []*total) {
	w.Family("tulle_requests_total", CounterKind, "Requests that ended, by the status that was sent.")
	for _, t := range totals {
		for _, code := range slices.Sorted(maps.Keys(t.statuses)) {
			status := overflow
			if code != 0 {
				status = strconv.Itoa(int(code))
			}
			w.Count(t.statuses[code], t.pairs("status", status)...)
		}
	}
	w.Family("tulle_request_duration_seconds", HistogramKind, "Time from a request's head to the last byte of its response.")
	for _, t := range totals {
		var n uint64
		for _, b := range t.buckets {
			n += b
		}
		if n == 0 {
			continue
		}
		var cumulative uint64
		for i, b := range t.buckets {
			cumulative += b
			w.count("_bucket", cumulative, t.pairs("le", w.bound(i)))
		}
		w.head("_sum", t.pairs())
		w.b = strconv.AppendFloat(w.b, float64(t.sum)/1e9, 'g', -1, 64)
		w.b = append(w.b, '\n')
		w.count("_count", n, t.pairs())
	}
	w.Family("tulle_connections_total", CounterKind, "Connections accepted, by what was spoken on them.")
	for _, t := range totals {
		for p, n := range t.protocols {
			if n > 0 {
				w.Count(n, t.pairs("protocol", Protocol(p).String())...)
			}
		}
	}
	w.Family("tulle_connections_open", GaugeKind, "Connections open now.")
	for _, t := range totals {
		if t.protocols != [protocols]uint64{} {
			w.Count(t.open, t.pairs()...)
		}
	}
	w.Family("tulle_received_bytes_total", CounterKind, "Bytes received from clients, without TLS.")
	for _, t := range totals {
		w.Count(t.received, t.pairs()...)
	}
	w.Family("tulle_sent_bytes_total", CounterKind, "Bytes sent to clients, without TLS.")
	for _, t := range totals {
		w.Count(t.sent, t.pairs()...)
	}
}

func (r *Registry) writeState(w *Writer) {
	if expiry := r.identityExpiry.Load(); expiry != 0 {
		w.Family("tulle_identity_expiry_timestamp_seconds", GaugeKind, "When the certificate in use ends.")
		w.Sample(float64(expiry))
	}
	w.Family("tulle_control_connected", GaugeKind, "Whether the conversation with the control plane is up.")
	var up uint64
	if r.connected.Load() {
		up = 1
	}
	w.Count(up)
	w.Family("tulle_view_version", GaugeKind, "The version of the mesh that the proxy's view was made from.")
	w.Count(r.viewVersion.Load())
	w.Family("tulle_build_info", GaugeKind, "The program's version, as a label.")
	w.Count(1, "version", r.version)
}
