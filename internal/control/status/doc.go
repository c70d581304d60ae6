// Package status writes conditions back into objects: what the graph worked
// out, and what proxies rejected. In come graph.Status values and rejections,
// out go writes to the store, a bounded number under way, the latest only.
// The control plane's loop feeds it; the elected replica runs it.
package status
