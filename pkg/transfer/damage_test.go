package transfer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

// small is a database of a few pages.
func small(t testing.TB) []byte {
	t.Helper()
	return exported(t, random(t, 4, 12, 5))
}

// With a checksum, every file cut at any byte and with any byte changed is
// refused.
func TestDamagedSnapshotIsRefused(t *testing.T) {
	b := small(t)
	for n := range len(b) {
		if n == len(b)-checksumSize {
			continue // a whole database without a checksum
		}
		if _, _, err := read(b[:n], ReadOptions{}); err == nil {
			t.Fatalf("cut at byte %d of %d", n, len(b))
		}
	}
	for i := range b {
		if i%7 != 0 && i > 4*4096 && i < len(b)-checksumSize {
			continue
		}
		c := bytes.Clone(b)
		c[i] ^= 0x55
		if _, _, err := read(c, ReadOptions{}); !errors.Is(err, ErrDamaged) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
}

// Without a checksum damage may go unnoticed, but it does no harm.
func TestDamagedDatabaseDoesNoHarm(t *testing.T) {
	b := small(t)
	b = b[:len(b)-checksumSize]
	refused := 0
	rng := rand.New(rand.NewPCG(1, 1))
	for range 5000 {
		c := bytes.Clone(b)
		for range 1 + rng.IntN(3) {
			i := rng.IntN(len(c))
			switch rng.IntN(3) {
			case 0:
				c[i] ^= 1 << rng.IntN(8)
			case 1:
				c[i] = byte(rng.Uint32())
			default: // a header of a page
				i = i/4096*4096 + rng.IntN(80)
				c[i] = byte(rng.Uint32())
			}
		}
		m, _, err := read(c, ReadOptions{DropAuth: true})
		if err != nil {
			refused++
		}
		if m.finished != (err == nil) {
			t.Fatal("finished in spite of an error")
		}
	}
	if refused == 0 {
		t.Fatal("no damage was noticed")
	}
	for n := 0; n < len(b); n += sectorSize {
		if _, _, err := read(b[:n], ReadOptions{}); err == nil {
			t.Fatalf("cut at byte %d of %d", n, len(b))
		}
	}
}

func FuzzReadEtcd(f *testing.F) {
	b := small(f)
	f.Add(b[:len(b)-checksumSize])
	f.Add(b)
	f.Add(b[:4096])
	f.Fuzz(func(t *testing.T, b []byte) {
		m, _, err := read(b, ReadOptions{DropAuth: true})
		if m.finished != (err == nil) {
			t.Fatal("finished in spite of an error")
		}
		if err == nil {
			exported(t, m)
		}
	})
}

// Pages that name each other end the reading, however many ways through them
// there are.
func TestPagesInACircle(t *testing.T) {
	b := small(t)
	b = b[:len(b)-checksumSize]
	newest := b
	if binary.LittleEndian.Uint64(b[16+48:]) < binary.LittleEndian.Uint64(b[4096+16+48:]) {
		newest = b[4096:]
	}
	root := binary.LittleEndian.Uint64(newest[16+16:])
	page := b[root*4096:]
	binary.LittleEndian.PutUint16(page[8:], boltBranch)
	binary.LittleEndian.PutUint16(page[10:], 2)
	for i := range 2 {
		binary.LittleEndian.PutUint64(page[boltHeader+i*boltElement+8:], root)
	}
	if _, _, err := read(b, ReadOptions{}); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "two places") {
		t.Fatal(err)
	}
}
