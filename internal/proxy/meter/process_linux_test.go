package meter

import (
	"os"
	"testing"
)

// TestCountFDs: both ways of counting agree, and see a file that is opened.
func TestCountFDs(t *testing.T) {
	quick, ok1 := countFDs()
	slow, ok2 := listFDs()
	if !ok1 || !ok2 || quick != slow {
		t.Errorf("counted %d (%v) and %d (%v)", quick, ok1, slow, ok2)
	}
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if more, _ := countFDs(); more != quick+1 {
		t.Errorf("%d descriptors, then %d with one more file open", quick, more)
	}
}

func TestReadStat(t *testing.T) {
	s, ok := readStat()
	if !ok || s.resident == 0 || s.virtual < s.resident {
		t.Errorf("%+v, %v", s, ok)
	}
}
