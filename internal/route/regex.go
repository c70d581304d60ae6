package route

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
)

// Limits of a regular expression.
const (
	// maxRegex bounds its source, in bytes.
	maxRegex = 1024
	// maxProgram bounds what it compiles to, in instructions: the time to match is
	// that many steps for each byte at worst.
	maxProgram = 2048
)

// regex is a compiled RE2 expression that has to match the whole of something.
type regex struct {
	whole *regexp.Regexp
	// literal is what everything that matches begins with.
	literal string
}

// regexes are the compiled expressions of a Spec, by source.
type regexes map[string]*regex

func (all regexes) add(source string) error {
	if all[source] != nil {
		return nil
	}
	r, err := compileRegex(source)
	if err == nil {
		all[source] = r
	}
	return err
}

func compileRegex(source string) (*regex, error) {
	if source == "" {
		return nil, fmt.Errorf("the regular expression is empty")
	}
	if len(source) > maxRegex {
		return nil, fmt.Errorf("the regular expression has %d bytes, want at most %d", len(source), maxRegex)
	}
	// By itself first, so that no parenthesis of it closes ours.
	if _, err := syntax.Parse(source, syntax.Perl); err != nil {
		return nil, notRE2(err)
	}
	whole := `\A(?:` + source + `)\z`
	tree, err := syntax.Parse(whole, syntax.Perl)
	if err != nil {
		return nil, notRE2(err)
	}
	program, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return nil, notRE2(err)
	}
	if n := len(program.Inst); n > maxProgram {
		return nil, fmt.Errorf("the regular expression compiles to %d steps, want at most %d: bound its repetitions lower", n, maxProgram)
	}
	alone, err := regexp.Compile(source)
	if err != nil {
		return nil, notRE2(err)
	}
	compiled, err := regexp.Compile(whole)
	if err != nil {
		return nil, notRE2(err)
	}
	out := &regex{whole: compiled}
	out.literal, _ = alone.LiteralPrefix()
	return out, nil
}

func notRE2(err error) error {
	return fmt.Errorf("the regular expression is not RE2: %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
}

func (r *regex) meets(b []byte) bool {
	return len(b) >= len(r.literal) && string(b[:len(r.literal)]) == r.literal && r.whole.Match(b)
}
