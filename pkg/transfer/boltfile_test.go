package transfer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// The reader finds what bbolt has written, in trees of all sizes.
func TestBoltFile(t *testing.T) {
	for _, pageSize := range []int{1024, 4096, 16384} {
		for _, n := range []int{0, 1, 10, 1000, 20_000} {
			path := filepath.Join(t.TempDir(), "db")
			db, err := bolt.Open(path, 0o600, &bolt.Options{PageSize: pageSize, NoSync: true})
			ok(t, err)
			want := map[string][]byte{}
			rng := rand.New(rand.NewPCG(uint64(n), 1))
			ok(t, db.Update(func(tx *bolt.Tx) error {
				b := must(tx.CreateBucket([]byte("one")))
				must(tx.CreateBucket([]byte("two")))
				for range n {
					k, v := binary.BigEndian.AppendUint32(nil, rng.Uint32()), randomValue(rng)
					want[string(k)] = v
					ok(t, b.Put(k, v))
				}
				return nil
			}))
			ok(t, db.Close())
			got := map[string][]byte{}
			data := must(os.ReadFile(path))
			f, err := openBolt(bytes.NewReader(data), int64(len(data)))
			ok(t, err)
			var names []string
			ok(t, f.buckets(func(name []byte, b boltBucket) error {
				names = append(names, string(name))
				return f.entries(b, func(k, v []byte) error {
					got[string(k)] = bytes.Clone(v)
					return nil
				})
			}))
			if !slices.Equal(names, []string{"one", "two"}) || len(got) != len(want) {
				t.Fatalf("page size %d, %d keys: buckets %q with %d keys", pageSize, n, names, len(got))
			}
			for k, v := range want {
				if !bytes.Equal(got[k], v) {
					t.Fatalf("page size %d, %d keys: key %x differs", pageSize, n, k)
				}
			}
		}
	}
}

// A meta page that a crash has torn leaves the other one.
func TestBoltFileWithOneMetaPage(t *testing.T) {
	b := small(t)
	b = b[:len(b)-checksumSize]
	newest := 0
	if binary.LittleEndian.Uint64(b[16+48:]) < binary.LittleEndian.Uint64(b[4096+16+48:]) {
		newest = 4096
	}
	older := 4096 - newest
	b[older+20]++
	want, _, err := read(b, ReadOptions{})
	ok(t, err)
	if len(want.rows) == 0 {
		t.Fatal("no rows")
	}
	b[newest+20]++
	if _, _, err := read(b, ReadOptions{}); !errors.Is(err, ErrDamaged) {
		t.Fatalf("both torn: %v", err)
	}
}
