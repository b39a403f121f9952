package mvcc

import (
	"context"
	"errors"
	"testing"
)

func (d *db) hash(rev int64) uint32 {
	d.Helper()
	resp, err := d.store.HashKV(context.Background(), rev)
	if err != nil {
		d.Fatal(err)
	}
	return resp.Hash
}

// TestHashKV: the hash depends on the history and the compaction alone, not on
// how much of the compaction is done or whether the store was opened anew.
func TestHashKV(t *testing.T) {
	d := newDB(t, Config{})
	d.grant(7, 10)
	for _, key := range []string{"a", "b", "a", "c", "b"} {
		d.write(put(key, key), leased("l"+key, 7))
	}
	d.write(del("a", "c"))
	whole := map[int64]uint32{}
	for rev := int64(1); rev <= 7; rev++ {
		whole[rev] = d.hash(rev)
		if rev > 1 && whole[rev] == whole[rev-1] {
			t.Fatalf("revisions %d and %d hash alike", rev, rev-1)
		}
	}
	if d.hash(0) != whole[7] {
		t.Fatal("revision 0 is not the current one")
	}
	d.reopen()
	if d.hash(5) != whole[5] {
		t.Fatal("the hash differs after reopening")
	}
	d.compact(5)
	before := map[int64]uint32{5: d.hash(5), 6: d.hash(6), 7: d.hash(7)}
	for name, step := range map[string]func(){"scrubbed": d.scrub, "reopened": d.reopen} {
		step()
		for rev, want := range before {
			if d.hash(rev) != want {
				t.Fatalf("the hash at %d differs when %s", rev, name)
			}
		}
	}
	if _, err := d.store.HashKV(context.Background(), 4); !errors.Is(err, ErrCompacted) {
		t.Fatal(err)
	}
	if _, err := d.store.HashKV(context.Background(), 8); !errors.Is(err, ErrFutureRevision) {
		t.Fatal(err)
	}
	if resp, _ := d.store.HashKV(context.Background(), 6); resp.CompactRevision != 5 || resp.HashRevision != 6 || resp.Header.Revision != 7 {
		t.Fatalf("%v", resp)
	}
}

// TestHash: of the rows that are kept.
func TestHash(t *testing.T) {
	d := newDB(t, Config{})
	seen := map[uint32]bool{}
	for range 3 {
		h, err := d.store.Hash(context.Background())
		if err != nil || seen[h] {
			t.Fatalf("%d, %v", h, err)
		}
		seen[h] = true
		d.write(put("a", "1"))
	}
}
