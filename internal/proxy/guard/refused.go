package guard

import "time"

// Refused writes to the log that a request was refused for another reason than
// access rules, unless there were too many. msg says what, args more; id is the
// story's.
func (c *Caller) Refused(now time.Duration, msg, id string, method, path []byte, args ...any) {
	l := c.door.keeper.log
	if !l.refused.take(now, maxLines) {
		return
	}
	missed := l.refused.missed.Swap(0)
	args = append(append(c.describe(), "method", plain(method), "path", plain(path), "id", id, "unlogged", missed), args...)
	l.write(&l.refused, func() { l.log.Warn(msg, args...) })
}
