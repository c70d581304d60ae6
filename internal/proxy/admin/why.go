package admin

import (
	"net/url"
	"strconv"

	"tulle.dev/tulle/internal/proxy/story"
)

// maxID bounds an id that is asked for, in bytes: a longer x-request-id isn't
// kept whole, so it can't be found.
const maxID = 256

// why answers /why?id=ID, and /why?last=N&service=NAME, with a list of stories.
func (s *Server) why(query string) answer {
	v, err := url.ParseQuery(query)
	if err != nil {
		return text(400, "the query can't be read: "+err.Error()+"\n")
	}
	q := story.Query{ID: v.Get("id"), Service: v.Get("service")}
	if len(q.ID) > maxID {
		return text(400, "id: is too long\n")
	}
	if last := v.Get("last"); last != "" {
		n, err := strconv.Atoi(last)
		if err != nil || n < 1 || n > story.MaxLast {
			return text(400, "last: want a number from 1 to "+strconv.Itoa(story.MaxLast)+"\n")
		}
		q.Last = n
	}
	list := []story.Told{}
	if s.config.Stories != nil {
		list = s.config.Stories(q)
	}
	return s.json(list)
}
