package proxy

import (
	"slices"

	"tulle.dev/tulle/internal/proxy/story"
)

// tell keeps the story of a connection that was refused, couldn't be carried, or was
// reset before its server had said anything: for who is asked why. No answer can say
// its id; lists of stories do.
func (c *incoming) tell(reason string) {
	n := c.lane
	kind := story.Failed
	switch reason {
	case accessDenied, egressDenied, "connection_limit_reached", "peer_identity_denied":
		kind = story.Refused
	}
	now := n.loop.Now()
	s := n.http.Stories.Begin(kind)
	s.ID = story.ID(n.loop.Rand.Uint64())
	s.At = n.loop.Wall().Add(c.began - now)
	s.Direction, s.Service, s.Caller = c.about.direction.String(), c.about.service, c.about.peer
	s.Policy = c.refusedBy
	s.Reason, s.Total = reason, now-c.began
	s.Method.Set([]byte(story.TCP))
	s.Host.Set([]byte(c.serverName))
	s.Path.Set([]byte(c.conn.Peer().String()))
	if c.carried != nil {
		tries, all := c.carried.Tried()
		list := make([]story.Try, len(tries))
		for i, try := range tries {
			try.Began, try.Ended = max(try.Began-c.began, 0), max(try.Ended-c.began, 0)
			list[i] = try
		}
		s.SetTries(list, all)
		if to := c.carried.Cluster(); to != nil {
			if to.Key != "" {
				s.Service = to.Key
			}
			for _, e := range to.Endpoints() {
				state := "not_chosen"
				switch {
				case slices.ContainsFunc(list, func(t story.Try) bool { return t.Address == e.Address }):
					state = "tried"
				case e.Out():
					state = "ejected"
				case e.Suspect:
					state = "suspect"
				}
				s.AddEndpoint(story.Endpoint{Address: e.Address, Workload: e.Workload, State: state})
			}
		}
	}
	n.http.Stories.End()
}
