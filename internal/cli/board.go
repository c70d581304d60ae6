package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
)

// board is what `up` shows: lines that stay, and on a terminal one line at the
// end that changes.
type board struct {
	mu       sync.Mutex
	out      io.Writer
	paint    painter
	live     bool   // out is a terminal
	shown    string // the changing line
	lastSaid string // without a terminal: the last state printed
}

func newBoard(a *app) *board {
	f, ok := a.Out.(*os.File)
	return &board{out: a.Out, paint: a.paint, live: ok && isTerminal(f)}
}

const boardColumn = 16

// done prints a line that stays.
func (b *board) done(what, text string) { b.line(b.paint.good("√"), what, text) }
func (b *board) bad(what, text string)  { b.line(b.paint.bad("×"), what, text) }

func (b *board) line(mark, what, text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clear()
	fmt.Fprintf(b.out, "%s %-*s %s\n", mark, boardColumn, what, text)
	b.redraw()
}

// note prints a remark that stays.
func (b *board) note(format string, a ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clear()
	fmt.Fprintf(b.out, "%s %s\n", b.paint.warn("‼"), fmt.Sprintf(format, a...))
	b.redraw()
}

// progress and status change the last line. Without a terminal a state is
// printed only when the number of ready proxies changes.
func (b *board) progress(text string) { b.change(b.paint.faint("… " + text)) }

func (b *board) status(text string) {
	if !b.live {
		head, _, _ := strings.Cut(text, " · ")
		b.mu.Lock()
		defer b.mu.Unlock()
		if head != b.lastSaid {
			b.lastSaid = head
			fmt.Fprintf(b.out, "  %s\n", text)
		}
		return
	}
	b.change("  " + text)
}

func (b *board) change(text string) {
	if !b.live {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clear()
	b.shown = text
	b.redraw()
}

func (b *board) clear() {
	if b.live && b.shown != "" {
		fmt.Fprint(b.out, "\r\x1b[K")
	}
}

func (b *board) redraw() {
	if b.live && b.shown != "" {
		fmt.Fprint(b.out, b.shown)
	}
}

// stop removes the changing line.
func (b *board) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clear()
	b.shown = ""
}
