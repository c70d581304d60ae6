// Package spare keeps free memory of one event loop for reuse, for as long as it
// is of use.
//
// In come objects that somebody has done with, out go the same ones to whom needs
// one next, so that the steady path allocates nothing however many requests are
// under way at once. What a burst needed and nobody needs any more is given up by
// Trim, which the loop calls once a second while there is a surplus.
//
// Called by the HTTP/2 engine (its frames' heads, streams and chunks) and by
// l7http (its exchanges). It knows nothing of either.
package spare
