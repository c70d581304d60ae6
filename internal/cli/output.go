package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
	"sigs.k8s.io/yaml"
)

// painter colours text for people, or leaves it alone.
type painter bool

func (p painter) wrap(code, s string) string {
	if !p || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p painter) good(s string) string  { return p.wrap("32", s) }
func (p painter) warn(s string) string  { return p.wrap("33", s) }
func (p painter) bad(s string) string   { return p.wrap("31", s) }
func (p painter) bold(s string) string  { return p.wrap("1", s) }
func (p painter) faint(s string) string { return p.wrap("2", s) }

// newPainter colours only a terminal, and never when NO_COLOR is set
// (no-color.org) or TERM is dumb.
func newPainter(w io.Writer, getenv func(string) string) painter {
	f, ok := w.(*os.File)
	return painter(ok && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd())))
}

// The output formats.
const (
	formatTable = ""
	formatWide  = "wide"
	formatJSON  = "json"
	formatYAML  = "yaml"
	formatName  = "name"
	formatPEM   = "pem"
	formatShort = "short"
)

// checkFormat refuses an -o that the command doesn't have.
func checkFormat(got string, allowed ...string) error {
	for _, a := range allowed {
		if got == a {
			return nil
		}
	}
	var named []string
	for _, a := range allowed {
		if a != formatTable {
			named = append(named, a)
		}
	}
	return couldNot("", "-o %s: want %s", got, strings.Join(named, ", "))
}

// table aligns columns of text for people; cells may be coloured.
type table struct {
	header []string
	rows   [][]string
}

func newTable(header ...string) *table { return &table{header: header} }

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// columnGap parts two columns.
const columnGap = 3

func (t *table) write(w io.Writer) {
	all := append([][]string{t.header}, t.rows...)
	widths := make([]int, len(t.header))
	for _, row := range all {
		for i, cell := range row {
			widths[i] = max(widths[i], visible(cell))
		}
	}
	for _, row := range all {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell)
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", widths[i]-visible(cell)+columnGap))
			}
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

// visible is the width of a cell without its colours.
func visible(s string) int {
	n := utf8.RuneCountInString(s)
	for {
		start := strings.Index(s, "\x1b[")
		if start < 0 {
			return n
		}
		end := strings.IndexByte(s[start:], 'm')
		if end < 0 {
			return n
		}
		n -= end + 1
		s = s[start+end+1:]
	}
}

// printData writes JSON as it came, indented and legible, or as YAML.
func printData(w io.Writer, format string, data []byte) error {
	if format == formatYAML {
		out, err := yaml.JSONToYAML(data)
		if err != nil {
			return fmt.Errorf("the control plane's answer is not JSON: %w", err)
		}
		_, err = w.Write(out)
		return err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, bytes.TrimSpace(data), "", "  "); err != nil {
		return fmt.Errorf("the control plane's answer is not JSON: %w", err)
	}
	out.WriteByte('\n')
	_, err := w.Write(legible(out.Bytes()))
	return err
}

// age says how long ago something was, the way kubectl does: its largest one or
// two units.
func age(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 10*time.Minute:
		if s := int(d.Seconds()) % 60; s != 0 {
			return fmt.Sprintf("%dm%ds", int(d.Minutes()), s)
		}
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 3*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 8*time.Hour:
		if m := int(d.Minutes()) % 60; m != 0 {
			return fmt.Sprintf("%dh%dm", int(d.Hours()), m)
		}
		return fmt.Sprintf("%dh", int(d.Hours()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// orDash shows an unknown value.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// short writes a duration without zero units: 24h, not 24h0m0s.
func short(d time.Duration) string {
	if d == 0 {
		return ""
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// sortedNames are a map's keys in order.
func sortedNames[T any](m map[string]T) []string {
	return slices.Sorted(maps.Keys(m))
}
