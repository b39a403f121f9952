package mvcc

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

// TestHistory compares a history of small blocks with a slice.
func TestHistory(t *testing.T) {
	for seed := range uint64(30) {
		g := newGen(seed)
		h := history{block: 1 + g.IntN(5)}
		var want []*record
		rev, dropped := int64(1), int64(0)
		between := func(from, upTo int64) []*record {
			var list []*record
			for _, r := range want {
				if r.mod >= from && r.mod <= upTo {
					list = append(list, r)
				}
			}
			return list
		}
		for step := range 400 {
			switch g.IntN(8) {
			case 0, 1, 2:
				var added []*record
				for range g.IntN(4) {
					rev += 1 + g.Int64N(2)
					for sub := range 1 + g.IntN(4) {
						added = append(added, &record{mod: rev, sub: int32(sub)})
					}
				}
				h.append(added)
				want = append(want, added...)
			case 3:
				dropped = max(dropped, rev-g.Int64N(30))
				h.drop(dropped)
				want = between(dropped, math.MaxInt64)
			case 4:
				at := dropped + g.Int64N(rev-dropped+1)
				added := []*record{{mod: at, sub: 1}, {mod: at, sub: 0}}
				sorted := []*record{added[1], added[0]}
				want = slices.Concat(between(0, at-1), sorted, between(at+1, math.MaxInt64))
				h.replace(at, added)
				rev = max(rev, at)
			default:
				from, limit := max(0, rev-g.Int64N(40)), 1+g.IntN(6)
				upTo := rev - g.Int64N(5) + 1
				full := between(from, upTo)
				n := min(limit, len(full))
				for n > 0 && n < len(full) && full[n].mod == full[n-1].mod {
					n++
				}
				if got := h.from(nil, from, upTo, limit); !slices.Equal(got, full[:n]) {
					t.Fatalf("seed %d step %d: from %d to %d, %d: %s, want %s", seed, step, from, upTo, limit, revisions(got), revisions(full[:n]))
				}
			}
			if h.len() != len(want) {
				t.Fatalf("seed %d step %d: length %d, want %d", seed, step, h.len(), len(want))
			}
		}
		if got := h.from(nil, 0, math.MaxInt64, math.MaxInt); !slices.Equal(got, want) {
			t.Fatalf("seed %d: %s, want %s", seed, revisions(got), revisions(want))
		}
	}
}

func revisions(records []*record) string {
	var list []int64
	for _, r := range records {
		list = append(list, r.mod)
	}
	return fmt.Sprint(list)
}
