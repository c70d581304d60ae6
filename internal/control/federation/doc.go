// Package federation exchanges trust bundles with other meshes, by the SPIFFE
// Federation specification: Handler serves our own, a Federation fetches those of
// the trust domains that the Mesh object names.
//
// In come those names (Want), out go the roots of each domain (Bundles), of which
// control/push tells the proxies; Changed says when they are others. The last good
// bundle of each is kept in the store, with what the Mesh object said then, so it
// outlives restarts of both sides. One goroutine, Run's, fetches.
package federation
