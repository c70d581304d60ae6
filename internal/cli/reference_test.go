package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

// TestReference holds docs/reference/cli.md to what the commands say of
// themselves; -update writes it.
func TestReference(t *testing.T) {
	file := filepath.Join("..", "..", "docs", "reference", "cli.md")
	a := &app{getenv: func(string) string { return "" }}
	var b strings.Builder
	b.WriteString("# The command line\n\nMade from what `tulle COMMAND --help` prints, by `go test ./internal/cli -run Reference -update`. " +
		"[docs/cli.md](../cli.md) tells how to use it.\n")
	root := a.root()
	fmt.Fprintf(&b, "\n## Flags of every command\n\n```\n%s```\n", root.PersistentFlags().FlagUsages())
	reference(&b, root)
	want := b.String()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("docs/reference/cli.md is old (-commands +file); run go test ./internal/cli -run Reference -update\n%s", diff)
	}
}

func reference(b *strings.Builder, parent *cobra.Command) {
	for _, c := range parent.Commands() {
		if c.Hidden || c.Name() == "help" {
			continue
		}
		fmt.Fprintf(b, "\n## %s\n\n", c.CommandPath())
		text := c.Long
		if text == "" {
			text = c.Short + "."
		}
		fmt.Fprintf(b, "%s\n\n```\n%s\n```\n", text, c.UseLine())
		if c.Example != "" {
			fmt.Fprintf(b, "\nExamples:\n\n```sh\n%s\n```\n", unindent(c.Example))
		}
		if flags := c.NonInheritedFlags().FlagUsages(); flags != "" {
			fmt.Fprintf(b, "\nFlags:\n\n```\n%s```\n", flags)
		}
		reference(b, c)
	}
}

// unindent removes the two spaces that examples have for --help.
func unindent(s string) string {
	return strings.TrimPrefix(strings.ReplaceAll(s, "\n  ", "\n"), "  ")
}
