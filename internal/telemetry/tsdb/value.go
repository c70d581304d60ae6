package tsdb

import (
	"encoding/json"
	"math"
	"strconv"
)

// Kind is what a query's value is.
type Kind string

// The kinds of values, as the Prometheus HTTP API names them.
const (
	Vector Kind = "vector"
	Matrix Kind = "matrix"
	Scalar Kind = "scalar"
	Text   Kind = "string"
)

// Value is the answer to a query. Its JSON is the data of Prometheus' HTTP API.
type Value struct {
	Kind Kind
	// Series holds one point each in a Vector, many in a Matrix; a Scalar or
	// Text is the single point of a single series without labels.
	Series []Series
	Text   string // of the kind Text
	// Warnings and Infos are the engine's remarks on the query.
	Warnings, Infos []string
}

// Series is labels and points, oldest first.
type Series struct {
	Labels map[string]string
	Points []Point
}

// Point is a value at a time in Unix milliseconds.
type Point struct {
	T int64
	V float64
}

// MarshalJSON writes [SECONDS, "VALUE"].
func (p Point) MarshalJSON() ([]byte, error) { return p.append(nil, formatFloat(p.V)), nil }

func (p Point) append(b []byte, v string) []byte {
	b = append(b, '[')
	b = strconv.AppendFloat(b, float64(p.T)/1000, 'f', -1, 64)
	b = append(b, ',', '"')
	b = append(b, v...)
	return append(b, '"', ']')
}

func formatFloat(v float64) string {
	format := byte('f')
	if abs := math.Abs(v); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	return strconv.FormatFloat(v, format, -1, 64)
}

// MarshalJSON writes {"resultType": KIND, "result": ...}.
func (v Value) MarshalJSON() ([]byte, error) {
	type vector struct {
		Metric map[string]string `json:"metric"`
		Value  Point             `json:"value"`
	}
	type matrix struct {
		Metric map[string]string `json:"metric"`
		Values []Point           `json:"values"`
	}
	var result any
	switch v.Kind {
	case Vector:
		list := make([]vector, len(v.Series))
		for i, s := range v.Series {
			list[i] = vector{s.Labels, s.Points[0]}
		}
		result = list
	case Matrix:
		list := make([]matrix, len(v.Series))
		for i, s := range v.Series {
			list[i] = matrix{s.Labels, s.Points}
		}
		result = list
	case Scalar:
		result = v.Series[0].Points[0]
	case Text:
		result = []any{float64(v.Series[0].Points[0].T) / 1000, v.Text}
	}
	return json.Marshal(struct {
		Kind   Kind `json:"resultType"`
		Result any  `json:"result"`
	}{v.Kind, result})
}
