package client

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestHistogramBuckets(t *testing.T) {
	last := -1
	for us := int64(0); us < 1<<20; us++ {
		bucket := bucketOf(time.Duration(us) * time.Microsecond)
		if bucket < last || bucket > last+1 {
			t.Fatalf("%d us is in bucket %d, the one before in %d", us, bucket, last)
		}
		last = bucket
		if upper := upperBound(bucket).Microseconds(); upper < us || float64(upper-us) > float64(us)/100 {
			t.Fatalf("%d us is in bucket %d, which ends at %d us", us, bucket, upper)
		}
	}
	if bucket := bucketOf(math.MaxInt64); bucket >= allBuckets {
		t.Errorf("the longest duration is in bucket %d of %d", bucket, allBuckets)
	}
}

func TestHistogramQuantiles(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var parts [3]histogram
	var all []time.Duration
	for range 10_000 {
		d := time.Duration(r.ExpFloat64() * float64(5*time.Millisecond))
		parts[r.IntN(len(parts))].add(d)
		all = append(all, d)
	}
	slices.Sort(all)
	var h histogram
	for i := range parts {
		h.merge(&parts[i])
	}
	for _, part := range []float64{0.001, 0.5, 0.9, 0.99, 0.999, 1} {
		want, got := all[max(int(part*float64(len(all)))-1, 0)], h.quantile(part)
		if diff := math.Abs(float64(got - want)); diff > 0.01*float64(want)+float64(time.Microsecond) {
			t.Errorf("quantile %v: %v, want %v", part, got, want)
		}
	}
	if h.n != 10_000 || h.max != all[len(all)-1] || h.quantile(1) != h.max {
		t.Errorf("%d durations up to %v", h.n, h.max)
	}
	var empty histogram
	if empty.quantile(0.5) != 0 || empty.mean() != 0 {
		t.Error("an empty histogram has durations")
	}
}
