// Package trust takes a change of the CA's root through its stages: another root
// is trusted everywhere before it signs, and every certificate comes from it
// before the old one is trusted no more.
//
// In come what each proxy has taken (push) and the operator's wish (control/api);
// out go steps of the CA, and a report for people. It waits for every proxy whose
// certificate is still valid, connected or not: one that is gone for longer than
// that is nobody, and comes back through recovery or a new join token.
package trust
