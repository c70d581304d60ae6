package view

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// The state file: docs/format/state-file.md draws it.
const (
	// The first byte is not ASCII and the last two are CR LF, so that a copy
	// that changed characters or line ends shows at once (as in PNG).
	stateMagic = "\x89TULLE\r\n"
	// stateFormat grows when older programs couldn't read the payload.
	stateFormat  = 1
	stateHeader  = len(stateMagic) + 4 + 8 + sha256.Size
	offsetFormat = len(stateMagic)
	offsetLength = offsetFormat + 4
	offsetSum    = offsetLength + 8
)

// CorruptError says that a state file is not what was written: cut off,
// changed, of another format, or no state file at all.
type CorruptError struct {
	Path   string
	Reason string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("state file %s: %s; remove it and start the proxy with a control plane, "+
		"or render it again with `tulle view -f MESH.yaml --proxy NAME --state %s`", e.Path, e.Reason, e.Path)
}

// Load reads a state file. The error is a *CorruptError when the file is there
// but broken, and wraps fs.ErrNotExist when it isn't there.
func Load(path string) (*View, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the state file: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxSize+int64(stateHeader)+1))
	if err != nil {
		return nil, fmt.Errorf("read the state file: %w", err)
	}
	v, err := decodeState(b)
	if err != nil {
		return nil, &CorruptError{Path: path, Reason: err.Error()}
	}
	return v, nil
}

// Save writes a state file so that after a crash at any point path holds either
// the old or the new state, whole. The file is readable by its owner only: it
// may hold the keys of HTTPS listeners.
func Save(path string, v *View) (err error) {
	b := encodeState(v)
	if len(b) > MaxSize+stateHeader {
		return fmt.Errorf("write the state file %s: %d bytes are too big, want at most %d", path, len(b), MaxSize)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("write the state file: %w", err)
		}
	}()
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+".*.tmp") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes a rename inside dir survive a crash.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func encodeState(v *View) []byte { return frameState(Encode(v)) }

// frameState puts the header before a payload.
func frameState(payload []byte) []byte {
	b := make([]byte, 0, stateHeader+len(payload))
	b = append(b, stateMagic...)
	b = binary.BigEndian.AppendUint32(b, stateFormat)
	b = binary.BigEndian.AppendUint64(b, uint64(len(payload)))
	sum := sha256.Sum256(payload)
	b = append(b, sum[:]...)
	return append(b, payload...)
}

func decodeState(b []byte) (*View, error) {
	if len(b) < stateHeader {
		return nil, fmt.Errorf("%d bytes are too short, the header alone has %d", len(b), stateHeader)
	}
	if string(b[:len(stateMagic)]) != stateMagic {
		return nil, errors.New("it does not begin as a state file does")
	}
	if format := binary.BigEndian.Uint32(b[offsetFormat:]); format != stateFormat {
		return nil, fmt.Errorf("it has format %d, this program reads format %d", format, stateFormat)
	}
	payload := b[stateHeader:]
	if length := binary.BigEndian.Uint64(b[offsetLength:]); length != uint64(len(payload)) {
		return nil, fmt.Errorf("its header promises %d bytes of payload, there are %d", length, len(payload))
	}
	if sum := sha256.Sum256(payload); !bytes.Equal(sum[:], b[offsetSum:stateHeader]) {
		return nil, errors.New("its checksum is wrong, the content was changed or damaged")
	}
	v, err := Decode(payload)
	if err != nil {
		return nil, fmt.Errorf("its checksum is right but its content is not a view: %w", err)
	}
	return v, nil
}
