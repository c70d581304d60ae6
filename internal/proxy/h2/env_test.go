package h2

import "testing"

// TestEnvTrim: chunks that are in use again and again stay, those that aren't go,
// but for what is kept for good; and there is a bound.
func TestEnvTrim(t *testing.T) {
	var e Env
	use := func(n int) {
		var out []*chunk
		for range n {
			out = append(out, e.getChunk())
		}
		for _, k := range out {
			e.putChunk(k)
		}
	}
	steps := []struct {
		use   []int // before the trim
		spare int   // after it
	}{
		{[]int{8}, 8},
		{[]int{300}, 300},
		{[]int{300}, 300},
		{[]int{100}, 100},
		{nil, keptChunks},
		{nil, keptChunks},
		{[]int{2 * maxSpare}, maxSpare},
		{nil, keptChunks},
	}
	for i, step := range steps {
		for _, n := range step.use {
			use(n)
		}
		e.Trim()
		if n := 0; e.spare != step.spare || e.Surplus() != (step.spare > keptChunks) {
			t.Errorf("step %d: %d chunks are free, want %d", i, e.spare, step.spare)
		} else {
			for k := e.chunks; k != nil; k = k.next {
				n++
			}
			if n != e.spare {
				t.Errorf("step %d: %d chunks in the list, %d counted", i, n, e.spare)
			}
		}
	}
	use(300)
	if n := testing.AllocsPerRun(100, func() { use(300) }); n > 10 { // the test's own list
		t.Errorf("%v allocations", n)
	}
}
