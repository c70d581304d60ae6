package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"crypto/rand"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"tulle.dev/tulle/internal/control/object"
)

// Prefixes of keys.
const (
	ObjectsPrefix   = "/tulle/objects/"
	addressesPrefix = "/tulle/addresses/"
)

// attempts bounds how often a write is tried again when others write too.
const attempts = 8

// Objects is the typed layer: objects of known kinds, each with
// metadata.resourceVersion = the store's revision of its last write.
type Objects struct {
	Store
	// Now is the clock for creation timestamps.
	Now func() time.Time
}

// NewObjects makes the typed layer of a store.
func NewObjects(s Store) *Objects { return &Objects{Store: s, Now: time.Now} }

// Action says what Apply did.
type Action string

// The actions.
const (
	Created    Action = "created"
	Configured Action = "configured"
	Unchanged  Action = "unchanged"
)

// Key is where an object is kept.
func Key(k *object.Kind, namespace, name string) string {
	return kindPrefix(k) + orDash(namespace) + "/" + name
}

func kindPrefix(k *object.Kind) string {
	group := k.Group
	if group == "" {
		group = "core"
	}
	return ObjectsPrefix + group + "/" + k.Plural + "/"
}

// Prefix begins the keys of a kind's objects, in one namespace or with "" in all.
func Prefix(k *object.Kind, namespace string) string {
	prefix := kindPrefix(k)
	if namespace != "" {
		prefix += namespace + "/"
	}
	return prefix
}

func orDash(namespace string) string {
	if namespace == "" {
		return "-"
	}
	return namespace
}

// ParseKey is the inverse of Key.
func ParseKey(key string) (k *object.Kind, namespace, name string, ok bool) {
	parts := strings.Split(strings.TrimPrefix(key, ObjectsPrefix), "/")
	if len(parts) != 4 || !strings.HasPrefix(key, ObjectsPrefix) {
		return nil, "", "", false
	}
	for _, k := range object.Kinds() {
		if kindPrefix(k) == ObjectsPrefix+parts[0]+"/"+parts[1]+"/" {
			if parts[2] == "-" {
				parts[2] = ""
			}
			return k, parts[2], parts[3], true
		}
	}
	return nil, "", "", false
}

// Read turns an item into its object. An object written by a newer program may
// not be readable; the error says which.
func Read(it Item) (object.Object, error) {
	k, _, _, ok := ParseKey(it.Key)
	if !ok {
		return nil, fmt.Errorf("%s: not an object's key", it.Key)
	}
	o, err := object.Unmarshal(k, it.Value)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", it.Key, err)
	}
	o.SetResourceVersion(strconv.FormatInt(it.Revision, 10))
	return o, nil
}

// Fetch returns one object, or ErrNotFound.
func (o *Objects) Fetch(ctx context.Context, k *object.Kind, namespace, name string) (object.Object, error) {
	it, err := o.Get(ctx, Key(k, namespace, name))
	if err != nil {
		return nil, err
	}
	return Read(it)
}

// FetchAll returns the objects of a kind, of one namespace or (with "") of all.
func (o *Objects) FetchAll(ctx context.Context, k *object.Kind, namespace string) ([]object.Object, int64, error) {
	items, revision, err := o.List(ctx, Prefix(k, namespace))
	if err != nil {
		return nil, 0, err
	}
	out := make([]object.Object, 0, len(items))
	for _, it := range items {
		obj, err := Read(it)
		if err != nil {
			return nil, 0, err
		}
		out = append(out, obj)
	}
	return out, revision, nil
}

// Apply creates or replaces an object, which must be defaulted and valid. A
// resourceVersion in it must be the current one, else ErrConflict. Its status
// is not taken, and what the control plane assigned (uid, generation, virtual
// addresses) is kept. With dryRun nothing is written.
func (o *Objects) Apply(ctx context.Context, obj object.Object, dryRun bool) (object.Object, Action, error) {
	k := object.Of(obj)
	key := Key(k, obj.GetNamespace(), obj.GetName())
	want := obj.GetResourceVersion()
	for range attempts {
		var current object.Object
		var revision int64
		switch it, err := o.Get(ctx, key); {
		case err == nil:
			if current, err = Read(it); err != nil {
				return nil, "", err
			}
			revision = it.Revision
		case !errors.Is(err, ErrNotFound):
			return nil, "", err
		}
		if want != "" && want != strconv.FormatInt(revision, 10) {
			return nil, "", fmt.Errorf("%s/%s: %w: resourceVersion %s was sent, it is %d now; read it again", k.Name, obj.GetName(), ErrConflict, want, revision)
		}
		next, same, err := o.merge(k, current, obj)
		if err != nil {
			return nil, "", err
		}
		if same {
			return current, Unchanged, nil
		}
		action := Configured
		if current == nil {
			action = Created
		}
		if dryRun {
			return next, action, nil
		}
		if svc, ok := next.(*corev1.Service); ok {
			if err := o.assignAddresses(ctx, svc); err != nil {
				return nil, "", err
			}
		}
		stored, err := o.write(ctx, key, next, revision)
		if errors.Is(err, ErrConflict) && want == "" {
			continue
		}
		if err != nil {
			return nil, "", err
		}
		return stored, action, nil
	}
	return nil, "", fmt.Errorf("%s/%s: %w: others keep writing it", k.Name, obj.GetName(), ErrConflict)
}

// merge makes the object to store from what is there and what was sent.
func (o *Objects) merge(k *object.Kind, current, sent object.Object) (next object.Object, same bool, err error) {
	next = object.Clone(sent)
	next.SetManagedFields(nil)
	if current == nil {
		next.SetUID(types.UID(newUID()))
		next.SetCreationTimestamp(metav1.NewTime(o.Now().UTC().Truncate(time.Second)))
		next.SetGeneration(1)
		next, err = withStatusOf(k, next, nil)
		return next, false, err
	}
	next.SetUID(current.GetUID())
	next.SetCreationTimestamp(current.GetCreationTimestamp())
	next.SetGeneration(current.GetGeneration())
	next.SetResourceVersion(current.GetResourceVersion())
	if svc, ok := next.(*corev1.Service); ok {
		if old := current.(*corev1.Service); len(svc.Spec.ClusterIPs) == 0 {
			svc.Spec.ClusterIP, svc.Spec.ClusterIPs = old.Spec.ClusterIP, old.Spec.ClusterIPs
			svc.Spec.IPFamilies, svc.Spec.IPFamilyPolicy = old.Spec.IPFamilies, old.Spec.IPFamilyPolicy
		}
	}
	if next, err = withStatusOf(k, next, current); err != nil {
		return nil, false, err
	}
	a, err := object.Encode(current)
	if err != nil {
		return nil, false, err
	}
	b, err := object.Encode(next)
	if err != nil {
		return nil, false, err
	}
	if bytes.Equal(a, b) {
		return current, true, nil
	}
	next.SetGeneration(current.GetGeneration() + 1)
	return next, false, nil
}

// withStatusOf replaces an object's status by another's, or by none.
func withStatusOf(k *object.Kind, o, from object.Object) (object.Object, error) {
	if !k.HasStatus() {
		return o, nil
	}
	fields := map[string]json.RawMessage{}
	data, err := object.Encode(o)
	if err == nil {
		err = json.Unmarshal(data, &fields)
	}
	if err != nil {
		return nil, err
	}
	delete(fields, "status")
	if from != nil {
		var other struct {
			Status json.RawMessage `json:"status"`
		}
		if data, err = object.Encode(from); err == nil {
			err = json.Unmarshal(data, &other)
		}
		if err != nil {
			return nil, err
		}
		if other.Status != nil {
			fields["status"] = other.Status
		}
	}
	if data, err = json.Marshal(fields); err != nil {
		return nil, err
	}
	return object.Unmarshal(k, data)
}

func (o *Objects) write(ctx context.Context, key string, obj object.Object, revision int64) (object.Object, error) {
	obj.SetResourceVersion("")
	data, err := object.Encode(obj)
	if err != nil {
		return nil, err
	}
	r, err := o.Put(ctx, key, data, revision, 0)
	if err != nil {
		return nil, err
	}
	obj.SetResourceVersion(strconv.FormatInt(r, 10))
	return obj, nil
}

// Update changes an object in place: change gets a copy, and says whether it
// should be written. It is called again when somebody else wrote meanwhile.
// Generation moves when bump is set: for changes of the spec.
func (o *Objects) Update(ctx context.Context, k *object.Kind, namespace, name string, bump bool, change func(object.Object) bool) (object.Object, error) {
	key := Key(k, namespace, name)
	for range attempts {
		it, err := o.Get(ctx, key)
		if err != nil {
			return nil, err
		}
		obj, err := Read(it)
		if err != nil {
			return nil, err
		}
		if !change(obj) {
			return obj, nil
		}
		if bump {
			obj.SetGeneration(obj.GetGeneration() + 1)
		}
		stored, err := o.write(ctx, key, obj, it.Revision)
		if errors.Is(err, ErrConflict) {
			continue
		}
		return stored, err
	}
	return nil, fmt.Errorf("%s/%s: %w: others keep writing it", k.Name, name, ErrConflict)
}

// Remove deletes an object; ErrNotFound when there is none. A resourceVersion,
// where given, must be the current one.
func (o *Objects) Remove(ctx context.Context, k *object.Kind, namespace, name, resourceVersion string, dryRun bool) (revision int64, err error) {
	obj, err := o.Fetch(ctx, k, namespace, name)
	if err != nil {
		return 0, err
	}
	want := AnyRevision
	if resourceVersion != "" {
		if resourceVersion != obj.GetResourceVersion() {
			return 0, ErrConflict
		}
		want, _ = strconv.ParseInt(resourceVersion, 10, 64)
	}
	if dryRun {
		return 0, nil
	}
	revision, err = o.Delete(ctx, Key(k, namespace, name), want)
	if err != nil {
		return 0, err
	}
	if svc, ok := obj.(*corev1.Service); ok {
		o.releaseAddresses(ctx, svc)
	}
	return revision, nil
}

// assignAddresses gives a service its virtual addresses, once.
func (o *Objects) assignAddresses(ctx context.Context, s *corev1.Service) error {
	owner := s.Namespace + "/" + s.Name
	if len(s.Spec.ClusterIPs) > 0 {
		// Chosen by hand, or kept: reserve it, so that nobody else gets it.
		if a, err := netip.ParseAddr(s.Spec.ClusterIPs[0]); err == nil {
			if n := object.IndexOfVirtual(a); n >= 0 {
				taken, err := o.reserve(ctx, n, owner)
				if err != nil {
					return err
				}
				if taken != owner {
					return fmt.Errorf("spec.clusterIPs[0]: %s belongs to service %s: leave it out and one is chosen", a, taken)
				}
			}
			s.Spec.ClusterIP = s.Spec.ClusterIPs[0]
		}
		return nil
	}
	first := object.VirtualIndex(s.Namespace, s.Name)
	for i := range object.VirtualAddressCount {
		n := (first + i) % object.VirtualAddressCount
		taken, err := o.reserve(ctx, n, owner)
		if err != nil {
			return err
		}
		if taken == owner {
			v4, v6 := object.VirtualAddresses(n)
			s.Spec.ClusterIP = v4.String()
			s.Spec.ClusterIPs = []string{v4.String(), v6.String()}
			s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
			return nil
		}
	}
	return fmt.Errorf("%w: all %d virtual service addresses are taken", ErrFull, object.VirtualAddressCount)
}

// reserve takes an address for an owner and returns whose it is then.
func (o *Objects) reserve(ctx context.Context, n int, owner string) (string, error) {
	key := addressesPrefix + strconv.Itoa(n)
	_, err := o.Put(ctx, key, []byte(owner), 0, 0)
	if err == nil {
		return owner, nil
	}
	if !errors.Is(err, ErrConflict) {
		return "", err
	}
	it, err := o.Get(ctx, key)
	if err != nil {
		return "", err
	}
	return string(it.Value), nil
}

func (o *Objects) releaseAddresses(ctx context.Context, s *corev1.Service) {
	for _, ip := range s.Spec.ClusterIPs {
		a, err := netip.ParseAddr(ip)
		if err != nil {
			continue
		}
		if n := object.IndexOfVirtual(a); n >= 0 {
			key := addressesPrefix + strconv.Itoa(n)
			if it, err := o.Get(ctx, key); err == nil && string(it.Value) == s.Namespace+"/"+s.Name {
				// An address that stays reserved is found again by its owner's name.
				o.Delete(ctx, key, it.Revision)
			}
			return
		}
	}
}

// newUID returns a random UUID, version 4 (RFC 9562, section 5.4).
func newUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}
