package namespace

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	if IsChild(os.Args) {
		os.Exit(Child())
	}
	os.Exit(m.Run())
}
