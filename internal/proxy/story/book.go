package story

import "sync"

// What a Book keeps of each kind. Refusals have a part of their own so that
// somebody who is refused again and again can't push the failures out.
const (
	maxFailed  = 192
	maxRefused = 64
	maxSlow    = 64
)

// Book keeps one loop's stories. The zero value is empty. The loop alone begins
// and ends stories; anybody may read.
type Book struct {
	mu    sync.Mutex // held for the writing or copying of one story
	parts [Slow + 1]ring
}

// ring is the last stories of a kind. It takes memory as it grows.
type ring struct {
	list []Story
	next int // the oldest, once the list is full
}

var sizes = [Slow + 1]int{Failed: maxFailed, Refused: maxRefused, Slow: maxSlow}

// Begin returns a zero Story of a kind to be filled in; End must follow at once.
// It takes the oldest one's place when there are as many as may be.
func (b *Book) Begin(k Kind) *Story {
	b.mu.Lock()
	r := &b.parts[k]
	if len(r.list) < sizes[k] {
		r.list = append(r.list, Story{Kind: k})
		return &r.list[len(r.list)-1]
	}
	s := &r.list[r.next]
	r.next = (r.next + 1) % len(r.list)
	*s = Story{Kind: k}
	return s
}

// End ends what Begin began.
func (b *Book) End() { b.mu.Unlock() }

// Find calls f with a copy of each story that a test admits, in no order. The
// test sees the story itself and must neither keep nor change it.
func (b *Book) Find(test func(*Story) bool, f func(*Story)) {
	var s Story
	for k := range b.parts {
		for i := 0; ; i++ {
			b.mu.Lock()
			more := i < len(b.parts[k].list)
			wanted := more && test(&b.parts[k].list[i])
			if wanted {
				s = b.parts[k].list[i]
			}
			b.mu.Unlock()
			if !more {
				break
			}
			if wanted {
				f(&s)
			}
		}
	}
}
