package sniff

import (
	"io"

	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/poll"
)

// Look reads what the client has sent so far, within the budget, and decides by
// it. More says that nothing is decided yet: call it again when the connection
// is ready. io.EOF says that the client ended its side without a byte; another
// error that the connection broke. The bytes stay in the connection.
func Look(c *loop.Conn) (Kind, error) {
	whole := c.In().Len() >= Budget
	for {
		if b := c.In().Bytes(); len(b) > 0 {
			if k := Detect(b, whole); k != More {
				return k, nil
			}
		} else if whole {
			return Opaque, io.EOF
		}
		switch _, err := c.Fill(Budget); err {
		case nil:
		case poll.ErrAgain:
			return More, nil
		case io.EOF, loop.ErrFull:
			whole = true
		default:
			return Opaque, err
		}
	}
}
