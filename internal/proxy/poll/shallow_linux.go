package poll

import "golang.org/x/sys/unix"

// shallow is how many bytes a connection that many share may have waiting in the
// kernel: enough to keep a fast network busy until the loop comes round.
const shallow = 128 << 10

// Shallow keeps what was written and can't be sent yet with the writer: what is in
// the kernel already nothing can overtake.
func (p *epoll) Shallow(fd FD) {
	unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, shallow)
}
