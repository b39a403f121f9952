package client

import (
	"math/bits"
	"time"
)

// Buckets of a histogram: exact below subBuckets microseconds, then subBuckets/2 for each power of two, so that a value is known
// to less than one percent.
const (
	subBits    = 8
	subBuckets = 1 << subBits
	allBuckets = subBuckets + (64-subBits)*subBuckets/2
)

// histogram counts durations in bounded memory. The zero value is empty. It is not safe for concurrent use.
type histogram struct {
	counts [allBuckets]int64
	n      int64
	sum    time.Duration
	max    time.Duration
}

func (h *histogram) add(d time.Duration) {
	d = max(d, 0)
	h.counts[bucketOf(d)]++
	h.n++
	h.sum += d
	h.max = max(h.max, d)
}

// merge adds what another one has counted.
func (h *histogram) merge(other *histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.n += other.n
	h.sum += other.sum
	h.max = max(h.max, other.max)
}

// bucketOf is the bucket of a duration: the number of its power of two, and the digits that follow the first.
func bucketOf(d time.Duration) int {
	us := uint64(d / time.Microsecond)
	if us < subBuckets {
		return int(us)
	}
	shift := bits.Len64(us) - subBits // at least 1
	return subBuckets + (shift-1)*subBuckets/2 + int(us>>shift) - subBuckets/2
}

// upperBound is the longest duration of a bucket.
func upperBound(bucket int) time.Duration {
	if bucket < subBuckets {
		return time.Duration(bucket) * time.Microsecond
	}
	rest := bucket - subBuckets
	shift := rest/(subBuckets/2) + 1
	first := uint64(rest%(subBuckets/2)+subBuckets/2) << shift
	return time.Duration(first+1<<shift-1) * time.Microsecond
}

// quantile is the duration that a part of all, from 0 to 1, do not exceed.
func (h *histogram) quantile(part float64) time.Duration {
	rank := int64(part * float64(h.n))
	seen := int64(0)
	for i, n := range h.counts {
		if seen += n; n > 0 && seen >= rank {
			return min(upperBound(i), h.max)
		}
	}
	return h.max
}

func (h *histogram) mean() time.Duration {
	if h.n == 0 {
		return 0
	}
	return h.sum / time.Duration(h.n)
}
