package namespace

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	if IsChild(os.Args) {
		os.Exit(Child())
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0") // else each helper of a race-detecting test waits a second
	os.Exit(m.Run())
}
