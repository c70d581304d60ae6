package plan

import (
	"testing"

	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/view"
)

func TestMinBodyRate(t *testing.T) {
	for set, want := range map[int32]uint32{0: 0, 700: 700, -1: view.AnyBodyRate} {
		if got := settings(&mesh.Settings{Proxy: mesh.ProxySettings{MinBodyRate: set}}).MinBodyRate; got != want {
			t.Errorf("minBodyRate %d: proxies are told %d, want %d", set, got, want)
		}
	}
}

func TestEndExpired(t *testing.T) {
	for _, set := range []bool{false, true} {
		if got := settings(&mesh.Settings{EndExpired: set}).EndExpired; got != set {
			t.Errorf("told %v, want %v", got, set)
		}
	}
}
