package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"sync"
	"time"
)

const (
	// maxFile is the size at which a file is put aside, kept how many of those
	// there are.
	maxFile = 32 << 20
	kept    = 4
	// maxEntry bounds one line; what is longer loses its before and after.
	maxEntry = 1 << 20
)

// Entry is one change.
type Entry struct {
	Time time.Time `json:"time"`
	// Who is the operator, How they proved it, From where they called.
	Who  string `json:"who"`
	How  string `json:"how,omitempty"`
	From string `json:"from,omitempty"`
	// Action is apply, delete, join-token, certificate, trust-rotate, trust-back,
	// dashboard-link, dashboard-login, tap.
	Action string `json:"action"`
	// Kind, Namespace and Name are what was changed.
	Kind      string `json:"kind,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	Revision  string `json:"revision,omitempty"`
	// Before and After are the object's, without its status; null when there was
	// none, or when it is a Secret.
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
	// Error says that it was tried and refused.
	Error string `json:"error,omitempty"`
}

// Log is the record. Safe for concurrent use.
type Log struct {
	path string

	mu   sync.Mutex
	file *os.File
	size int64
}

// Open opens the record at a path, or begins it.
func Open(path string) (*Log, error) {
	l := &Log{path: path}
	return l, l.open()
}

func (l *Log) open() error {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("the audit log: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return fmt.Errorf("the audit log: %w", err)
	}
	l.file, l.size = f, info.Size()
	// A line that a crash has cut must not swallow the next one.
	last := []byte{'\n'}
	if l.size > 0 {
		_, err = f.ReadAt(last, l.size-1)
	}
	if err == nil && last[0] != '\n' {
		var n int
		n, err = f.Write([]byte{'\n'})
		l.size += int64(n)
	}
	if err != nil {
		f.Close()
		l.file = nil
		return fmt.Errorf("the audit log: %w", err)
	}
	return nil
}

// Write adds an entry. What can't be written down is an error for whoever made
// the change to hear of.
func (l *Log) Write(e Entry) error {
	line, err := json.Marshal(e)
	if err == nil && len(line) > maxEntry {
		e.Before, e.After = nil, nil
		line, err = json.Marshal(e)
	}
	if err != nil {
		return fmt.Errorf("the audit log: %w", err)
	}
	line = append(line, '\n')
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return errors.New("the audit log is closed")
	}
	if l.size > 0 && l.size+int64(len(line)) > maxFile {
		if err := l.putAside(); err != nil {
			return err
		}
	}
	n, err := l.file.Write(line)
	if err != nil && n > 0 && l.file.Truncate(l.size) == nil { // the disk is full: no half lines
		n = 0
	}
	l.size += int64(n)
	if err == nil {
		err = l.file.Sync()
	}
	if err != nil {
		return fmt.Errorf("the audit log: %w", err)
	}
	return nil
}

// putAside renames the file and the older ones: the oldest goes.
func (l *Log) putAside() error {
	l.file.Close()
	l.file = nil
	for i := kept; i > 0; i-- {
		from := l.path
		if i > 1 {
			from += "." + strconv.Itoa(i-1)
		}
		if err := os.Rename(from, l.path+"."+strconv.Itoa(i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(fmt.Errorf("the audit log: %w", err), l.open())
		}
	}
	return l.open()
}

// Last returns the newest entries, the oldest of them first, of those that match;
// match may be nil.
func (l *Log) Last(n int, match func(*Entry) bool) ([]Entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Entry
	for i := 0; i <= kept && len(out) < n; i++ {
		path := l.path
		if i > 0 {
			path += "." + strconv.Itoa(i)
		}
		list, err := read(path, match)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, err
		}
		out = append(list, out...)
	}
	return out[max(0, len(out)-n):], nil
}

func read(path string, match func(*Entry) bool) ([]Entry, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var out []Entry
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, maxEntry+1)
	for lines.Scan() {
		var e Entry
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue // a line that a crash cut
		}
		if match == nil || match(&e) {
			out = append(out, e)
		}
	}
	return out, lines.Err()
}

// Close closes the file.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}
