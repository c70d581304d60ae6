package live

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestGreets: what was heard is reported at once, and again on each
// conversation as long as it is worth something.
func TestGreets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeControl(t)
		l, stop := run(t, c.config(""))
		s, _ := c.accept()
		l.Greets("db.default:3306")
		if m := s.next(); m.Greets == nil || !slices.Equal(m.Greets.Ports, []string{"db.default:3306"}) {
			t.Errorf("got %+v, want the report", m)
		}
		c.stop()
		time.Sleep(time.Second)
		l.Greets("mail.default:25") // while it is away
		c.start()
		s, _ = c.accept()
		if m := s.next(); m.Greets == nil || !slices.Equal(m.Greets.Ports, []string{"db.default:3306", "mail.default:25"}) {
			t.Errorf("got %+v, want both", m)
		}
		c.stop()
		time.Sleep(GreetingKept)
		c.start()
		s, _ = c.accept()
		l.Greets("ftp.default:21")
		if m := s.next(); m.Greets == nil || !slices.Equal(m.Greets.Ports, []string{"ftp.default:21"}) {
			t.Errorf("got %+v, want what is new only", m)
		}
		stop()
		c.stop()
	})
}
