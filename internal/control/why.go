package control

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"tulle.dev/tulle/internal/control/api"
	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/proxy/story"
)

// Bounds of one question to the proxies.
const (
	maxAsked = 16 // proxies at the same time
	maxHops  = 8  // ids that are asked for, one after the other
)

var _ api.Stories = (*facts)(nil)

// Why asks the proxies for the stories of a request, or for the last ones. With an
// id it goes on to ask for the ids that the answers name: the next proxy's story,
// and other requests of the same x-request-id.
func (f *facts) Why(ctx context.Context, q story.Query) (*client.Stories, error) {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	out := &client.Stories{Stories: []client.Story{}}
	proxies := slices.DeleteFunc(f.push.Proxies(), func(p client.Proxy) bool {
		if p.Connected {
			return false
		}
		out.Silent = append(out.Silent, client.Silent{Proxy: p.Name + "." + p.Namespace, Error: "is not connected"})
		return true
	})
	if q.ID == "" {
		list, silent := f.askStories(ctx, proxies, q)
		slices.SortFunc(list, func(a, b client.Story) int { return b.At.Compare(a.At) })
		if q.Last <= 0 {
			q.Last = 20
		}
		out.Stories, out.Silent = append(out.Stories, list[:min(len(list), q.Last)]...), append(out.Silent, silent...)
		return out, nil
	}
	have, asked := map[string]bool{}, map[string]bool{}
	for next := []string{q.ID}; len(next) > 0 && len(asked) < maxHops; {
		id := next[0]
		next = next[1:]
		if asked[id] {
			continue
		}
		asked[id] = true
		list, silent := f.askStories(ctx, proxies, story.Query{ID: id, Last: story.MaxLast})
		for _, s := range list {
			if key := s.Proxy + " " + s.ID; !have[key] {
				have[key] = true
				out.Stories = append(out.Stories, s)
				for _, more := range []string{s.ID, s.Peer, s.RequestID} {
					if more != "" && !asked[more] {
						next = append(next, more)
					}
				}
			}
		}
		if len(asked) == 1 {
			out.Silent = append(out.Silent, silent...)
		}
	}
	inOrder(out.Stories)
	return out, nil
}

// askStories asks all proxies at once, a bounded number at the same time.
func (f *facts) askStories(ctx context.Context, proxies []client.Proxy, q story.Query) (list []client.Story, silent []client.Silent) {
	values := url.Values{}
	if q.ID != "" {
		values.Set("id", q.ID)
	}
	if q.Service != "" {
		values.Set("service", q.Service)
	}
	if q.Last > 0 {
		values.Set("last", strconv.Itoa(q.Last))
	}
	page := "/why?" + values.Encode()
	slots := make(chan struct{}, maxAsked)
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, p := range proxies {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			name := p.Name + "." + p.Namespace
			told, err := f.askOne(ctx, &p, page)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				silent = append(silent, client.Silent{Proxy: name, Error: err.Error()})
				return
			}
			for _, s := range told {
				list = append(list, client.Story{Proxy: name, Told: s})
			}
		})
	}
	all.Wait()
	slices.SortFunc(silent, func(a, b client.Silent) int { return cmp.Compare(a.Proxy, b.Proxy) })
	return list, silent
}

func (f *facts) askOne(ctx context.Context, p *client.Proxy, page string) ([]story.Told, error) {
	data, err := f.readProxy(ctx, p, page, maxStories)
	if err != nil {
		return nil, err
	}
	var told []story.Told
	if err := json.Unmarshal(data, &told); err != nil {
		return nil, fmt.Errorf("its answer can't be read: %w", err)
	}
	return told[:min(len(told), story.MaxLast)], nil
}

// inOrder puts the stories of one request into the order in which it met the
// proxies: by time, but the story that another one names comes right after that,
// for clocks differ.
func inOrder(list []client.Story) {
	slices.SortFunc(list, func(a, b client.Story) int {
		if c := a.At.Compare(b.At); c != 0 {
			return c
		}
		return strings.Compare(a.Proxy, b.Proxy)
	})
	byID, inner := map[string]int{}, map[string]bool{}
	for i, s := range list {
		byID[s.ID] = i
		if s.Peer != s.ID {
			inner[s.Peer] = true
		}
	}
	out := make([]client.Story, 0, len(list))
	done := make([]bool, len(list))
	follow := func(i int) {
		for ok := true; ok && !done[i]; i, ok = byID[list[i].Peer] {
			out, done[i] = append(out, list[i]), true
			if list[i].Peer == "" {
				break
			}
		}
	}
	for i, s := range list {
		if !inner[s.ID] {
			follow(i)
		}
	}
	for i := range list { // those that name each other, if a proxy is wrong
		follow(i)
	}
	copy(list, out)
}
