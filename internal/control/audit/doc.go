// Package audit keeps a record of every change that somebody made: who, from
// where, what, before and after. One JSON object a line, in a file of the data
// directory that grows to a bound and is then put aside; so many of those are
// kept. Secrets' contents are never written.
//
// In come entries from control/api, out go the last ones for `tulle audit`.
package audit
