package control

import (
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/proxy/story"
)

func TestInOrder(t *testing.T) {
	make := func(id, peer string, at int64) client.Story {
		return client.Story{Proxy: id, Told: story.Told{ID: id, Peer: peer, At: time.UnixMilli(at)}}
	}
	for name, test := range map[string]struct {
		in   []client.Story
		want string
	}{
		"none":             {nil, ""},
		"by time":          {[]client.Story{make("b", "", 2), make("a", "", 1)}, "a b"},
		"clocks differ":    {[]client.Story{make("inner", "", 1), make("edge", "inner", 5), make("later", "", 9)}, "edge inner later"},
		"a chain of three": {[]client.Story{make("c", "", 1), make("b", "c", 2), make("a", "b", 3)}, "a b c"},
		"unknown peer":     {[]client.Story{make("a", "gone", 1)}, "a"},
		"itself":           {[]client.Story{make("a", "a", 1), make("b", "", 2)}, "a b"},
		"each other":       {[]client.Story{make("a", "b", 1), make("b", "a", 2)}, "a b"},
	} {
		inOrder(test.in)
		var got []string
		for _, s := range test.in {
			got = append(got, s.ID)
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%s: %v, want %s", name, got, test.want)
		}
	}
}
