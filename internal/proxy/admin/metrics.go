package admin

import (
	"strconv"
	"strings"

	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/wire/h1"
)

// metrics answers in the format that the request likes better: Prometheus' text
// unless it says otherwise.
func (s *Server) metrics(r *h1.Request) answer {
	var b strings.Builder // which doesn't fail
	if wantsOpenMetrics(r.Fields) {
		s.config.Meter.WriteOpenMetrics(&b)
		return answer{status: 200, media: meter.OpenMetricsType, body: []byte(b.String())}
	}
	s.config.Meter.WriteText(&b)
	return answer{status: 200, media: meter.ContentType, body: []byte(b.String())}
}

// wantsOpenMetrics reports whether Accept (RFC 9110, 12.5.1) names OpenMetrics, in
// the version that is written, with a weight that Prometheus' text doesn't exceed.
func wantsOpenMetrics(fields []h1.Field) bool {
	open, text := 0.0, -1.0
	for i := range fields {
		if fields[i].Drop || !h1.EqualFold(fields[i].Name, "accept") {
			continue
		}
		for _, part := range strings.Split(string(fields[i].Value), ",") {
			media, parameters, _ := strings.Cut(part, ";")
			weight, version := 1.0, ""
			for _, p := range strings.Split(parameters, ";") {
				name, value, _ := strings.Cut(p, "=")
				value = strings.Trim(strings.TrimSpace(value), `"`)
				switch strings.ToLower(strings.TrimSpace(name)) {
				case "q":
					if q, err := strconv.ParseFloat(value, 64); err == nil && q >= 0 && q <= 1 {
						weight = q
					} else {
						weight = 0
					}
				case "version":
					version = value
				}
			}
			switch strings.ToLower(strings.TrimSpace(media)) {
			case "application/openmetrics-text":
				if version == "" || version == "1.0.0" {
					open = max(open, weight)
				}
			case "text/plain":
				if version == "" || version == "0.0.4" {
					text = max(text, weight)
				}
			}
		}
	}
	return open > 0 && open >= text
}
