package h2

// ParseData returns a DATA frame's data without its padding. The whole
// payload, f.Length bytes, counts against the flow-control windows.
func ParseData(f Frame) (data []byte, endStream bool, err error) {
	if err := f.onStream(); err != nil {
		return nil, false, err
	}
	data, err = f.unpad()
	return data, f.Flags.Has(FlagEndStream), err
}

// AppendData appends one DATA frame without padding. The caller keeps
// len(data) within the peer's SETTINGS_MAX_FRAME_SIZE and both windows.
func AppendData(dst []byte, stream uint32, endStream bool, data []byte) []byte {
	return append(AppendDataHeader(dst, stream, endStream, len(data)), data...)
}

// AppendDataHeader appends the header of a DATA frame whose n bytes of data
// the caller writes behind it.
func AppendDataHeader(dst []byte, stream uint32, endStream bool, n int) []byte {
	var flags Flags
	if endStream {
		flags = FlagEndStream
	}
	return AppendHeader(dst, Header{uint32(n), Data, flags, stream})
}
