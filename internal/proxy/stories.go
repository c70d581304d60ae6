package proxy

import "tulle.dev/tulle/internal/proxy/story"

// Stories returns the requests that went badly, of all loops. It may be called
// from anywhere.
func (p *Proxy) Stories(q story.Query) []story.Told {
	books := make([]*story.Book, 0, len(p.lanes))
	for _, n := range p.lanes {
		books = append(books, &n.http.Stories)
	}
	return story.Ask(books, q)
}
