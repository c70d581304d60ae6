package record

import (
	"errors"
	"fmt"
	"os"
)

// maxFile is the size at which a file of the access log is put aside, as
// FILE.1; the one that was put aside before is deleted.
const maxFile = 64 << 20

// File is an access log in a file that doesn't grow for ever. It is for one
// goroutine.
type File struct {
	path string
	file *os.File
	size int64
	max  int64
	cut  bool // what was written last isn't the end of a line
}

// OpenFile opens a file that lines are added to, or begins it, for its owner
// alone.
func OpenFile(path string) (*File, error) {
	f := &File{path: path, max: maxFile}
	return f, f.open()
}

func (f *File) open() error {
	file, err := os.OpenFile(f.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("the access log: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return fmt.Errorf("the access log: %w", err)
	}
	f.file, f.size = file, 0
	if info.Mode().IsRegular() {
		f.size = info.Size()
	}
	return nil
}

// Write adds lines, or parts of some.
func (f *File) Write(b []byte) (int, error) {
	if f.file == nil {
		if err := f.open(); err != nil {
			return 0, err
		}
	}
	if !f.cut && f.size > 0 && f.size+int64(len(b)) > f.max {
		err := errors.Join(f.Close(), os.Rename(f.path, f.path+".1"), f.open())
		if err != nil {
			return 0, err
		}
	}
	n, err := f.file.Write(b)
	f.size += int64(n)
	f.cut = n > 0 && b[n-1] != '\n'
	return n, err
}

// Close closes the file.
func (f *File) Close() error {
	if f.file == nil {
		return nil
	}
	err := f.file.Close()
	f.file = nil
	return err
}
