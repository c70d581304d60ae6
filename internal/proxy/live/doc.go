// Package live is what the proxy has been told, ready for use: it turns view
// resources into one immutable compiled Table behind an atomic pointer, which
// the loops read without a lock, and keeps that table up to date.
//
// In come resources, from a state file (Static) or from the control plane
// (New and Run: discovery as traffic needs it, the SVID's renewal, the state on
// disk, registration, the drain hand-shake). Out go the Table, answers to
// look-ups, and the credentials for TLS. It accepts no connection and sends no
// request of an application.
package live
