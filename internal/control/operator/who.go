package operator

import (
	"context"
	"fmt"
	"slices"
	"time"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/identity"
)

// Who is one caller of the API.
type Who struct {
	// Name is the Operator's, or says who it is otherwise; How is how it was
	// proven: socket, token-file, certificate, token, oidc, workload.
	Name, How string
	// From is the caller's address, empty on the socket.
	From string
	Role v1alpha1.OperatorRole
	// Namespaces bound the role; nil is all of them and what belongs to none.
	Namespaces []string
	// Workload is who shows a workload's certificate and is no operator; it has no
	// role.
	Workload identity.ID

	// operator is the Operator object, empty for who needs none; proof is what of it
	// was shown, and until is when that ends by itself, if it does.
	operator, proof string
	until           time.Time
}

// Verb is what somebody wants to do.
type Verb uint8

// View reads, ViewSecrets reads what is secret, Tap watches requests, Edit changes
// objects of a namespace, Administer changes what is for all.
const (
	View Verb = iota
	ViewSecrets
	Tap
	Edit
	Administer
)

var verbs = [...]string{View: "view", ViewSecrets: "read secrets", Tap: "watch requests", Edit: "change things", Administer: "change what is for the whole mesh"}

// rank is the least role for a verb.
var rank = map[Verb]int{View: 1, ViewSecrets: 2, Tap: 2, Edit: 2, Administer: 3}

var roles = map[v1alpha1.OperatorRole]int{v1alpha1.OperatorView: 1, v1alpha1.OperatorEdit: 2, v1alpha1.OperatorAdmin: 3}

// DeniedError says what somebody may not.
type DeniedError struct{ text string }

func (e *DeniedError) Error() string { return e.text }

// May returns nil when the caller may do that in a namespace; "" is what belongs
// to none, or to all of them.
func (w *Who) May(v Verb, namespace string) error {
	if roles[w.Role] < rank[v] {
		return &DeniedError{fmt.Sprintf("%s has the role %s, which may not %s", w.Name, w.Role, verbs[v])}
	}
	if w.Namespaces == nil || namespace != "" && slices.Contains(w.Namespaces, namespace) {
		return nil
	}
	if namespace == "" {
		return &DeniedError{fmt.Sprintf("%s is for the namespaces %v only, and this is for all of them", w.Name, w.Namespaces)}
	}
	return &DeniedError{fmt.Sprintf("%s is for the namespaces %v only, not for %s", w.Name, w.Namespaces, namespace)}
}

type whoKey struct{}

// With notes who makes a request.
func With(ctx context.Context, w *Who) context.Context { return context.WithValue(ctx, whoKey{}, w) }

// Of returns who makes a request; nobody may do anything.
func Of(ctx context.Context) *Who {
	if w, ok := ctx.Value(whoKey{}).(*Who); ok {
		return w
	}
	return &Who{Name: "nobody", Namespaces: []string{}}
}

// Whole says that what the caller sees has no bounds.
func (w *Who) Whole() bool { return w.May(View, "") == nil }

// Within returns what of a list is of namespaces that the caller sees: a new list,
// never nil, or the same for who sees all. of lists an element's namespaces, of which
// one is enough.
func Within[T any](w *Who, list []T, of func(*T) []string) []T {
	if w.Whole() {
		return list
	}
	out := []T{}
	for i := range list {
		if slices.ContainsFunc(of(&list[i]), func(ns string) bool { return ns != "" && w.May(View, ns) == nil }) {
			out = append(out, list[i])
		}
	}
	return out
}
