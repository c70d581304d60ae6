package policy

// LogMode says of which requests and connections a proxy writes a line.
type LogMode uint8

// The modes. LogFailed has what was answered with a 5xx or not at all, and what the
// proxy refused or couldn't do.
const (
	LogOff LogMode = iota
	LogFailed
	LogAll
)

// AccessLog is what a proxy's access log has. The zero value is nothing.
type AccessLog struct {
	Mode LogMode
	// Sample is of how many in a hundred of the requests that went well LogAll has a
	// line; 0 is of all.
	Sample uint8
}

// Percent is Sample with its default.
func (l AccessLog) Percent() uint32 {
	if l.Sample == 0 || l.Sample > 100 {
		return 100
	}
	return uint32(l.Sample)
}
