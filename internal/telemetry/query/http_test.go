package query

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestPrometheusAPI compares whole answers with the form that Prometheus' HTTP
// API documentation gives, for what Grafana asks.
func TestPrometheusAPI(t *testing.T) {
	l := newLab(t)
	cart := l.proxy("cart-1")
	l.run(10*time.Second, func() { cart.request(cartIn, "200", 20) })
	const labels = `{"__name__":"tulle_requests_total","direction":"inbound","namespace":"default","peer":"web.default","proxy":"cart-1","service":"cart.default:8080","status":"200","tls":"mutual"}`
	tests := []struct {
		name, path string
		form       string
		code       int
		want       string
	}{
		{"instant vector", "query", "query=tulle_requests_total&time=1800000010", 200,
			`{"status":"success","data":{"resultType":"vector","result":[{"metric":` + labels + `,"value":[1800000010,"100"]}]}}`},
		{"at an earlier time", "query", "query=sum(tulle_requests_total)&time=2027-01-15T08:00:04Z", 200,
			`{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1800000004,"40"]}]}}`},
		{"now, by default", "query", "query=sum(tulle_requests_total)", 200,
			`{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1800000010,"100"]}]}}`},
		{"scalar", "query", "query=1%2B1&time=1800000010.5", 200, `{"status":"success","data":{"resultType":"scalar","result":[1800000010.5,"2"]}}`},
		{"what Grafana asks to see whether it works", "query", "query=1%2B1&time=4", 200, `{"status":"success","data":{"resultType":"scalar","result":[4,"2"]}}`},
		{"string", "query", `query="x"&time=1800000010`, 200, `{"status":"success","data":{"resultType":"string","result":[1800000010,"x"]}}`},
		{"range vector", "query", "query=tulle_requests_total[4s]&time=1800000010", 200,
			`{"status":"success","data":{"resultType":"matrix","result":[{"metric":` + labels + `,"values":[[1800000008,"80"],[1800000010,"100"]]}]}}`},
		{"nothing", "query", "query=nonesuch", 200, `{"status":"success","data":{"resultType":"vector","result":[]}}`},
		{"range query", "query_range", "query=sum(tulle_requests_total)&start=1800000004&end=1800000008&step=2", 200,
			`{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1800000004,"40"],[1800000006,"60"],[1800000008,"80"]]}]}}`},
		{"step as a duration", "query_range", "query=sum(tulle_requests_total)&start=1800000004&end=1800000008&step=4s", 200,
			`{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1800000004,"40"],[1800000008,"80"]]}]}}`},
		{"limited", "query", "query=tulle_request_duration_seconds_bucket&limit=1", 200, ""},
		{"infinity", "query", "query=1/0&time=4", 200, `{"status":"success","data":{"resultType":"scalar","result":[4,"+Inf"]}}`},
		{"no query", "query", "", 400, `{"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": unknown position: parse error: no expression found in input"}`},
		{"bad time", "query", "query=1&time=noon", 400, `{"status":"error","errorType":"bad_data","error":"invalid parameter \"time\": cannot parse \"noon\" to a valid timestamp"}`},
		{"bad timeout", "query", "query=1&timeout=-1s", 400, ""},
		{"fails while running", "query", `query={proxy="cart-1"} * on() {proxy="cart-1"}`, 422, ""},
		{"too many points", "query_range", "query=1&start=0&end=1800000000&step=1", 400,
			`{"status":"error","errorType":"bad_data","error":"exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)"}`},
		{"end before start", "query_range", "query=1&start=5&end=4&step=1", 400, `{"status":"error","errorType":"bad_data","error":"invalid parameter \"end\": end timestamp must not be before start time"}`},
		{"no step", "query_range", "query=1&start=4&end=5", 400, `{"status":"error","errorType":"bad_data","error":"invalid parameter \"step\": cannot parse \"\" to a valid duration"}`},
		{"zero step", "query_range", "query=1&start=4&end=5&step=0", 400, ""},
		{"labels", "labels", "match[]=tulle_requests_total", 200, `{"status":"success","data":["__name__","direction","namespace","peer","proxy","service","status","tls"]}`},
		{"labels, limited", "labels", "match[]=tulle_requests_total&limit=2", 200, `{"status":"success","data":["__name__","direction"],"warnings":["results truncated due to limit"]}`},
		{"labels of a time without samples", "labels", "start=1700000000&end=1700000001", 200, `{"status":"success","data":[]}`},
		{"series", "series", "match[]=tulle_requests_total", 200, `{"status":"success","data":[` + labels + `]}`},
		{"series, two selectors", "series", `match[]=up&match[]={__name__="up"}`, 200, `{"status":"success","data":[{"__name__":"up","namespace":"default","proxy":"cart-1"}]}`},
		{"series of everything", "series", `match[]={}`, 400, `{"status":"error","errorType":"bad_data","error":"match[] must contain at least one non-empty matcher"}`},
		{"series without a selector", "series", "", 400, `{"status":"error","errorType":"bad_data","error":"no match[] parameter provided"}`},
		{"format", "format_query", "query=sum(a)by(b)", 200, `{"status":"success","data":"sum by (b) (a)"}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			get := httptest.NewRequest("GET", "/api/v1/"+test.path+"?"+strings.NewReplacer(`"`, "%22", " ", "%20").Replace(test.form), nil)
			post := httptest.NewRequest("POST", "/api/v1/"+test.path, strings.NewReader(test.form))
			post.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			for _, r := range []*http.Request{get, post} {
				w := httptest.NewRecorder()
				l.engine.Handler().ServeHTTP(w, r)
				if w.Code != test.code || w.Header().Get("Content-Type") != "application/json" {
					t.Errorf("%s: %d %s, want %d application/json\n%s", r.Method, w.Code, w.Header().Get("Content-Type"), test.code, w.Body)
				}
				if test.want != "" {
					var got, want any
					if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
						t.Fatal(err)
					}
					if err := json.Unmarshal([]byte(test.want), &want); err != nil {
						t.Fatal(err)
					}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("%s (-want +got):\n%s", r.Method, diff)
					}
				}
			}
		})
	}
}

func TestPrometheusAPIOfNames(t *testing.T) {
	l := newLab(t)
	cart := l.proxy("cart-1")
	l.run(10*time.Second, func() { cart.request(cartIn, "200", 20) })
	for path, want := range map[string]string{
		"/api/v1/label/status/values":                                     `{"status":"success","data":["200"]}`,
		"/api/v1/label/nonesuch/values":                                   `{"status":"success","data":[]}`,
		"/api/v1/label/proxy/values?match[]=nonesuch":                     `{"status":"success","data":[]}`,
		"/api/v1/metadata?metric=tulle_requests_total":                    `{"status":"success","data":{"tulle_requests_total":[{"type":"counter","help":"Text.","unit":""}]}}`,
		"/api/v1/metadata?metric=nonesuch":                                `{"status":"success","data":{}}`,
		"/api/v1/rules":                                                   `{"status":"success","data":{"groups":[]}}`,
		"/api/v1/query_exemplars?query=up":                                `{"status":"success","data":[]}`,
		"/api/v1/admin/tsdb/snapshot":                                     `{"status":"error","errorType":"not_found","error":"GET /api/v1/admin/tsdb/snapshot is not served; Tulle answers the part of the API that Grafana asks of a data source"}`,
		"/api/v1/label/" + url.PathEscape("\xff") + "/values":             `{"status":"error","errorType":"bad_data","error":"invalid label name: \"\\xff\""}`,
		"/api/v1/labels?start=5&end=4":                                    `{"status":"error","errorType":"bad_data","error":"invalid parameter \"end\": end timestamp must not be before start time"}`,
		"/api/v1/labels?limit=-1":                                         `{"status":"error","errorType":"bad_data","error":"invalid parameter \"limit\": limit must be non-negative"}`,
		"/api/v1/label/__name__/values?match[]={__name__=~\"tulle.*al\"}": `{"status":"success","data":["tulle_requests_total"]}`,
	} {
		w := httptest.NewRecorder()
		l.engine.Handler().ServeHTTP(w, httptest.NewRequest("GET", strings.ReplaceAll(path, `"`, "%22"), nil))
		if got := w.Body.String(); got != want {
			t.Errorf("GET %s:\ngot  %s\nwant %s", path, got, want)
		}
	}
	w := httptest.NewRecorder()
	l.engine.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/api/v1/status/buildinfo", nil))
	if !strings.Contains(w.Body.String(), `"version":"3.16.0"`) || !strings.Contains(w.Body.String(), `"revision":"tulle v0"`) {
		t.Errorf("build info: %s", w.Body)
	}
}
