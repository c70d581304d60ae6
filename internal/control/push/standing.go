package push

import (
	"slices"

	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/wire/control"
)

// Standing is how a gateway stands with its proxy.
type Standing struct {
	// Taken says that the proxy is connected, has taken what it was told of its
	// listeners, and has them open; else Lacks says what isn't so.
	Taken bool
	Lacks string
	// Away says that it has no proxy here (any more).
	Away bool
}

// standing tells of a gateway's proxy, when that has changed.
func (st *stream) standing() {
	tell := st.server.config.Standing
	if !st.key.gateway || tell == nil {
		return
	}
	st.mu.Lock()
	if own := st.subs[control.KeyProxy]; own != nil && st.sent != 0 && own.version != 0 && st.rejected[control.KeyProxy] == "" &&
		(st.flight == nil || !slices.Contains(st.flight.keys, control.KeyProxy)) {
		st.configured = true // or it came with that
	}
	now := Standing{Taken: true}
	switch {
	case !st.configured:
		now = Standing{Lacks: "its proxy has not taken it yet"}
	case !st.status.Ready && st.status.Detail != "":
		now = Standing{Lacks: "its proxy says: " + st.status.Detail}
	}
	changed := now != st.stood
	st.stood = now
	st.mu.Unlock()
	if changed {
		tell(st.key.Name, now)
	}
}

// away tells that a gateway's proxy is gone.
func (s *Server) away(n mesh.Name, gateway bool) {
	if gateway && s.config.Standing != nil {
		s.config.Standing(n, Standing{Away: true, Lacks: "its proxy is not connected"})
	}
}
