package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// The exit codes of every command but `run`, whose codes are the program's (see
// internal/run). They are part of the interface.
const (
	// ExitOK: done, or everything is fine.
	ExitOK = 0
	// ExitWrong: the question was answered and the answer is no: an object is
	// wrong or isn't there, a check failed.
	ExitWrong = 1
	// ExitCouldNot: the question couldn't be asked: wrong usage, no control
	// plane, no right.
	ExitCouldNot = 2
)

// failure is an error with what to do about it and the exit code.
type failure struct {
	code int
	err  error
	hint string
	// printed says that the command has shown what is wrong itself.
	printed bool
}

func (f *failure) Error() string {
	if f.err == nil {
		return fmt.Sprintf("exit code %d", f.code)
	}
	return f.err.Error()
}

func (f *failure) Unwrap() error { return f.err }

// wrong is an error about what was asked (exit code 1).
func wrong(hint, format string, a ...any) error {
	return &failure{code: ExitWrong, err: fmt.Errorf(format, a...), hint: hint}
}

// couldNot is an error that kept the command from asking (exit code 2).
func couldNot(hint, format string, a ...any) error {
	return &failure{code: ExitCouldNot, err: fmt.Errorf(format, a...), hint: hint}
}

// exit ends a command that has printed everything with a code.
func exit(code int) error {
	if code == ExitOK {
		return nil
	}
	return &failure{code: code, printed: true}
}

// report prints an error the way every command does and returns its exit code.
func report(w io.Writer, paint painter, err error) int {
	if err == nil {
		return ExitOK
	}
	var f *failure
	if !errors.As(err, &f) {
		f = &failure{code: ExitWrong, err: err}
	}
	if f.printed {
		return f.code
	}
	lines := strings.Split(strings.TrimRight(err.Error(), "\n"), "\n")
	if len(lines) == 1 {
		fmt.Fprintf(w, "%s %s\n", paint.bad("error:"), lines[0])
	} else {
		fmt.Fprintf(w, "%s\n", paint.bad("error:"))
		for _, line := range lines {
			fmt.Fprintf(w, "  %s\n", line)
		}
	}
	if f.hint != "" {
		fmt.Fprintf(w, "%s %s\n", paint.faint("hint:"), f.hint)
	}
	return f.code
}
