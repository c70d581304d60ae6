package spare

import "testing"

// TestTrim: objects that are in use again and again stay, those that aren't go,
// but for what is kept for good; and there is a bound.
func TestTrim(t *testing.T) {
	const keep, limit = 64, 1024
	var l List[[64]byte]
	use := func(n int) {
		out := make([]*[64]byte, n)
		for i := range out {
			if out[i] = l.Get(); out[i] == nil {
				out[i] = new([64]byte)
			}
		}
		for _, v := range out {
			l.Put(v, limit)
		}
	}
	for i, step := range []struct{ use, free int }{
		{8, 8},
		{300, 300},
		{300, 300},
		{100, 100},
		{0, keep},
		{0, keep},
		{2 * limit, limit},
		{0, keep},
		{65, 65},
	} {
		use(step.use)
		if l.Trim(keep); l.Len() != step.free {
			t.Errorf("step %d: %d objects are free, want %d", i, l.Len(), step.free)
		}
	}
	use(300)
	if n := testing.AllocsPerRun(100, func() { use(300) }); n > 1 { // the test's own list
		t.Errorf("%v allocations", n)
	}
}

// TestTrimForgets: what was dropped is nowhere in the list's memory.
func TestTrimForgets(t *testing.T) {
	var l List[int]
	for range 100 {
		l.Put(new(int), 100)
	}
	l.Trim(0) // counts
	l.Trim(0)
	for i, v := range l.free[:cap(l.free)] {
		if v != nil {
			t.Fatalf("object %d is still there", i)
		}
	}
}
