package api

import (
	"net/http"
	"strconv"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/proxy/story"
)

// maxStoryID bounds an id that is asked for, in bytes.
const maxStoryID = 256

// why answers GET /tulle/v1/why/ID, and /tulle/v1/why?last=N&service=NAME.
func (a *API) why(_ http.ResponseWriter, r *http.Request) (any, error) {
	if a.config.Stories == nil {
		return nil, failure(http.StatusServiceUnavailable, client.ReasonUnavailable, "this control plane asks no proxies")
	}
	q := story.Query{ID: r.PathValue("id"), Service: r.URL.Query().Get("service")}
	if len(q.ID) > maxStoryID {
		return nil, failure(http.StatusBadRequest, client.ReasonBadRequest, "the id has %d bytes, want at most %d", len(q.ID), maxStoryID)
	}
	if text := r.URL.Query().Get("last"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > story.MaxLast {
			return nil, failure(http.StatusBadRequest, client.ReasonBadRequest, "last %q: want a number from 1 to %d", text, story.MaxLast)
		}
		q.Last = n
	}
	out, err := a.config.Stories.Why(r.Context(), q)
	if err != nil {
		return nil, err
	}
	if q.ID != "" && len(out.Stories) == 0 && len(out.Silent) == 0 {
		return nil, failure(http.StatusNotFound, client.ReasonNotFound, "no proxy knows a request %q", q.ID)
	}
	return out, nil
}
