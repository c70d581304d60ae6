// Package story keeps what a proxy knows of the last requests that failed, were
// refused or were slow, so that somebody who asks why gets an answer.
//
// In goes a Story, filled in by the loop whose request it was; out come copies,
// for the admin listener and so for `tulle why`. A Book belongs to one loop, which
// writes to it only when a request went badly: a request that goes well costs
// nothing here but a Pace. Everything has a fixed size. Values from outside are
// cut off and have no header's value and no query among them, for those may be
// secrets; they are escaped where they are shown.
//
// l7http writes, admin and internal/proxy read.
package story
