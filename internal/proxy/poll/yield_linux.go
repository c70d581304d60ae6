package poll

import _ "unsafe" // for go:linkname

// yield lets the goroutines run that wait on this thread's processor, as
// runtime.Gosched does, but wakes no idle thread to look for work.
//
// A loop that never goes through the scheduler is interrupted by the runtime's
// monitor every 10 ms, with a signal, and goes on on another thread: at 1,000
// requests a second that was a tenth of their cost. The runtime keeps this
// function's name and signature for packages that rely on it (go.dev/issue/67401).
//
//go:linkname yield runtime.goyield
func yield()
