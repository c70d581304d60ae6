package live

import (
	"hash/maphash"
	"iter"
	"maps"
)

// A cow is an immutable map: with and without return a changed one that shares
// most of its memory with the old one. A change copies one of its buckets, so
// with 10,000 keys it touches about 160 of them. The zero value is empty.
type cow[K comparable, V any] struct {
	buckets *[cowBuckets]map[K]V
	size    int
}

const cowBuckets = 64

var cowSeed = maphash.MakeSeed()

func cowBucket[K comparable](key K) uint64 {
	if s, ok := any(key).(string); ok { // most keys are; a third of the time
		return maphash.String(cowSeed, s) % cowBuckets
	}
	return maphash.Comparable(cowSeed, key) % cowBuckets
}

func (c cow[K, V]) get(key K) (V, bool) {
	if c.buckets == nil {
		var zero V
		return zero, false
	}
	v, ok := c.buckets[cowBucket(key)][key]
	return v, ok
}

// edit returns a bucket that may be changed, in a copy of the map.
func (c cow[K, V]) edit(key K) (cow[K, V], map[K]V) {
	next := new([cowBuckets]map[K]V)
	if c.buckets != nil {
		*next = *c.buckets
	}
	i := cowBucket(key)
	next[i] = maps.Clone(next[i])
	if next[i] == nil {
		next[i] = make(map[K]V)
	}
	c.buckets = next
	return c, next[i]
}

func (c cow[K, V]) with(key K, v V) cow[K, V] {
	c, bucket := c.edit(key)
	if _, ok := bucket[key]; !ok {
		c.size++
	}
	bucket[key] = v
	return c
}

func (c cow[K, V]) without(key K) cow[K, V] {
	if _, ok := c.get(key); !ok {
		return c
	}
	c, bucket := c.edit(key)
	delete(bucket, key)
	c.size--
	return c
}

func (c cow[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if c.buckets == nil {
			return
		}
		for _, bucket := range c.buckets {
			for k, v := range bucket {
				if !yield(k, v) {
					return
				}
			}
		}
	}
}
