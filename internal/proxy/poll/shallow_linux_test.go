package poll

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestShallow: the kernel holds little that it can't send.
func TestShallow(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	new(epoll).Shallow(FD(fd))
	if got, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT); err != nil || got != shallow {
		t.Errorf("got %d, %v", got, err)
	}
}

// TestPipe: a pipe holds what was asked for, and no descriptor is left when it can't.
func TestPipe(t *testing.T) {
	p := new(epoll)
	pipe, err := p.Pipe(512 << 10)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := unix.FcntlInt(uintptr(pipe.W), unix.F_GETPIPE_SZ, 0); err != nil || got < leastPipe {
		t.Errorf("it holds %d bytes, %v", got, err)
	}
	n := 0
	for block := make([]byte, 64<<10); ; {
		got, err := unix.Write(int(pipe.W), block)
		if err != nil {
			break
		}
		n += got
	}
	if n < leastPipe {
		t.Errorf("it took %d bytes", n)
	}
	p.Close(pipe.R)
	p.Close(pipe.W)
	if _, err := p.Pipe(4 << 10); err != ErrUnsupported {
		t.Errorf("a pipe that is too small: %v", err)
	}
}
