package h2

import "encoding/binary"

// SettingID names a setting. Unknown ones are ignored.
type SettingID uint16

// The settings of RFC 9113, section 6.5.2, and RFC 8441.
const (
	HeaderTableSize       SettingID = 0x1
	EnablePush            SettingID = 0x2
	MaxConcurrentStreams  SettingID = 0x3
	InitialWindowSize     SettingID = 0x4
	MaxFrameSize          SettingID = 0x5
	MaxHeaderListSize     SettingID = 0x6
	EnableConnectProtocol SettingID = 0x8 // RFC 8441, section 3
)

// Setting is one parameter of a SETTINGS frame.
type Setting struct {
	ID    SettingID
	Value uint32
}

const settingLen = 6

// Check reports whether the value is legal, for an endpoint that receives
// it. fromServer says that a server sent it. The error is a ConnectionError.
// (That ENABLE_CONNECT_PROTOCOL may not go back from 1 to 0 is the engine's
// to know.)
func (s Setting) Check(fromServer bool) error {
	switch s.ID {
	case EnablePush:
		if s.Value > 1 {
			return ConnectionError{ProtocolError, "SETTINGS_ENABLE_PUSH neither 0 nor 1"}
		}
		if fromServer && s.Value != 0 {
			return ConnectionError{ProtocolError, "SETTINGS_ENABLE_PUSH 1 from a server"}
		}
	case InitialWindowSize:
		if s.Value > MaxWindow {
			return ConnectionError{FlowControlError, "SETTINGS_INITIAL_WINDOW_SIZE above 2^31-1"}
		}
	case MaxFrameSize:
		if s.Value < MinMaxFrameSize || s.Value > MaxMaxFrameSize {
			return ConnectionError{ProtocolError, "SETTINGS_MAX_FRAME_SIZE outside 2^14 to 2^24-1"}
		}
	case EnableConnectProtocol:
		if s.Value > 1 {
			return ConnectionError{ProtocolError, "SETTINGS_ENABLE_CONNECT_PROTOCOL neither 0 nor 1"}
		}
	}
	return nil
}

// SettingsList is the payload of a SETTINGS frame: parameters in the order
// in which they take effect.
type SettingsList []byte

// Len is the number of parameters.
func (l SettingsList) Len() int { return len(l) / settingLen }

// At is parameter i, from 0.
func (l SettingsList) At(i int) Setting {
	p := l[i*settingLen : (i+1)*settingLen]
	return Setting{SettingID(binary.BigEndian.Uint16(p)), binary.BigEndian.Uint32(p[2:])}
}

// ParseSettings reads a SETTINGS frame. ack is the peer's word that it has
// applied ours; such a frame is empty.
func ParseSettings(f Frame) (list SettingsList, ack bool, err error) {
	if err := f.onConnection(); err != nil {
		return nil, false, err
	}
	if f.Flags.Has(FlagAck) {
		if len(f.Payload) != 0 {
			return nil, true, ConnectionError{FrameSizeError, "SETTINGS acknowledgement with a payload"}
		}
		return nil, true, nil
	}
	if len(f.Payload)%settingLen != 0 {
		return nil, false, ConnectionError{FrameSizeError, "SETTINGS length not a multiple of 6"}
	}
	return SettingsList(f.Payload), false, nil
}

// AppendSettings appends a SETTINGS frame.
func AppendSettings(dst []byte, list ...Setting) []byte {
	dst = AppendHeader(dst, Header{uint32(len(list) * settingLen), Settings, 0, 0})
	for _, s := range list {
		dst = binary.BigEndian.AppendUint16(dst, uint16(s.ID))
		dst = binary.BigEndian.AppendUint32(dst, s.Value)
	}
	return dst
}

// AppendSettingsAck appends the acknowledgement of the peer's SETTINGS.
func AppendSettingsAck(dst []byte) []byte {
	return AppendHeader(dst, Header{0, Settings, FlagAck, 0})
}
