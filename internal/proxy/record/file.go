package record

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// maxFile is the size at which a file of the access log is put aside, as
	// FILE.1; the one that was put aside before is deleted.
	maxFile = 64 << 20
	// lookEvery is how often it is looked whether the file is still the one of that
	// name.
	lookEvery = time.Second
)

// File is an access log in a file that doesn't grow for ever. Who renames or removes
// the file, as logrotate does, or cuts it, needn't tell: the next lines go to a new
// file of the name. All but Reopen is for one goroutine.
type File struct {
	path   string
	file   *os.File
	size   int64
	max    int64
	looked time.Time
	reopen atomic.Bool
}

// OpenFile opens a file that lines are added to, or begins it, for its owner
// alone. One for which there is no room now is begun later.
func OpenFile(path string) (*File, error) {
	f := &File{path: path, max: maxFile}
	err := f.open()
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		err = nil // each Write tries again
	}
	return f, err
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
	f.file, f.size, f.looked = file, 0, time.Now()
	if info.Mode().IsRegular() {
		f.size = info.Size()
	}
	return nil
}

// Reopen has the file looked for anew before the next lines. It may be called from
// anywhere.
func (f *File) Reopen() { f.reopen.Store(true) }

// follow closes the file when its name is another one's, or nobody's.
func (f *File) follow() {
	again := f.reopen.Swap(false)
	if now := time.Now(); again || now.Sub(f.looked) >= lookEvery {
		f.looked = now
	} else {
		return
	}
	mine, err := f.file.Stat()
	if err != nil || !mine.Mode().IsRegular() {
		return
	}
	f.size = mine.Size() // somebody may have cut it
	if there, err := os.Stat(f.path); err != nil || !os.SameFile(mine, there) {
		f.Close()
	}
}

// Write adds whole lines, or none of a line: what there is no room for is left out,
// and so the file stays one of lines.
func (f *File) Write(b []byte) (int, error) {
	if f.file != nil {
		f.follow()
	}
	if f.file == nil {
		if err := f.open(); err != nil {
			return 0, err
		}
	}
	if f.size > 0 && f.size+int64(len(b)) > f.max {
		err := errors.Join(f.Close(), os.Rename(f.path, f.path+".1"), f.open())
		if err != nil {
			return 0, err
		}
	}
	n, err := f.file.Write(b)
	if n < len(b) {
		whole := bytes.LastIndexByte(b[:n], '\n') + 1
		if info, failed := f.file.Stat(); failed == nil && info.Mode().IsRegular() {
			f.file.Truncate(info.Size() - int64(n-whole))
		}
		n = whole
	}
	f.size += int64(n)
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
