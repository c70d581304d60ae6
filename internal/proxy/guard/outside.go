package guard

import "time"

// Outside writes that a call may not leave the mesh, or would not have been let
// out but for the policy's audit. to is the name or address and why says what was missing.
func (l *Log) Outside(now time.Duration, to string, port uint16, why string, audit bool) {
	w, text := &l.refused, "call may not leave the mesh"
	if audit {
		w, text = &l.audited, "call would not leave the mesh"
	}
	if !w.take(now, maxLines) {
		return
	}
	missed := w.missed.Swap(0)
	l.write(w, func() {
		l.log.Warn(text, "to", plain([]byte(to)), "port", port, "why", plain([]byte(why)), "unlogged", missed)
	})
}
