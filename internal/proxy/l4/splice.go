package l4

import (
	"io"

	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/poll"
)

// pipeSize is what a pipe holds, as the kernel makes it.
const pipeSize = 64 << 10

// openPipe goes over from copying to splicing, where that is possible: both
// sockets plain, nothing in the buffers.
func (f *flow) openPipe() {
	f.moved = 0
	if f.from.Layer() != nil || f.to.Layer() != nil {
		return
	}
	pipe, err := f.from.Loop().Pipe()
	if err != nil {
		return // copying goes on
	}
	f.pipe, f.open = pipe, true
	f.from.Rest()
}

func (f *flow) closePipe() {
	if f.open {
		f.from.Loop().Poller.Close(f.pipe.R)
		f.from.Loop().Poller.Close(f.pipe.W)
		f.open = false
	}
}

// splice moves bytes through the pipe. It is filled only when it is empty, so
// that "would block" on the way in always means that the socket has nothing.
func (f *flow) splice() bool {
	if f.piped > 0 {
		n, err := f.to.Splice(f.pipe.R, f.piped, false)
		f.piped -= n
		return err == nil
	}
	n, err := f.from.Splice(f.pipe.W, pipeSize, true)
	f.piped += n
	switch err {
	case nil:
		return true
	case io.EOF:
		f.end()
		return true
	case poll.ErrAgain:
		return false
	}
	return false
}

var _ loop.Handler = (*tunnel)(nil)
