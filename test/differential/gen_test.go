package differential

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// batchOps is how many operations share one key space, on average.
const batchOps = 250

// nastyKeys are used in every batch.
var nastyKeys = []string{
	"\x00", "\x00\x00", "\x01", "\xff", "\xff\xff", "\xff\xff\xff", "a\x00b", "\x80\xfe",
	strings.Repeat("l", 700), markerKey,
}

// generator makes the operations of one round. All randomness comes from the seed; besides it only what the
// runner learned from etcd is used, so a seed always gives the same sequence.
type generator struct {
	rng     *rand.Rand
	run     *runner
	prefix  string
	keys    [][]byte
	kvs     []*mvccpb.KeyValue // the keys as they were a few operations ago, for compares that hold
	weights []int              // of choices, drawn anew for every batch
	age     int
	batch   int
}

func newGenerator(seed uint64, run *runner) *generator {
	g := &generator{rng: rand.New(rand.NewPCG(seed, 0x6b696e7379)), run: run}
	g.newBatch()
	return g
}

// newBatch chooses fresh keys and how often each kind of operation is to come: batches differ in character.
func (g *generator) newBatch() {
	g.batch++
	g.prefix = fmt.Sprintf("k%d/", g.batch)
	g.keys = nil
	for _, suffix := range []string{"", "a", "b", "c", "d", "aa", "a\x00", "a\xff", "\xff", "\x00"} {
		g.keys = append(g.keys, []byte(g.prefix+suffix))
	}
	g.weights = make([]int, len(choices))
	for i, c := range choices {
		g.weights[i] = c.weight * (1 + g.rng.IntN(4))
	}
	g.kvs = nil
}

// choice is one kind of operation and how often it is made.
type choice struct {
	weight int
	make   func(g *generator) op
}

var choices = []choice{
	{20, (*generator).putOp},
	{14, (*generator).rangeOp},
	{6, (*generator).rangeStreamOp},
	{8, (*generator).deleteOp},
	{22, (*generator).txnOp},
	{5, (*generator).weaveOp},
	{2, (*generator).compactOp},
	{2, (*generator).hashOp},
	{8, (*generator).leaseOp},
	{4, (*generator).watchOp},
	{2, (*generator).cancelOp},
	{1, (*generator).settleOp},
}

// next returns the operation after those made so far.
func (g *generator) next() op {
	g.age++
	if g.rng.IntN(batchOps) == 0 {
		g.newBatch()
		return g.op(kindReset, nil)
	}
	if g.age%8 == 0 {
		g.look()
	}
	return choices[g.weighted(g.weights)].make(g)
}

func (g *generator) op(k kind, req proto.Message) op {
	return op{kind: k, req: req, head: g.run.head}
}

// look reads the present keys from etcd.
func (g *generator) look() {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	resp, err := g.run.peers[0].kv.Range(ctx, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Limit: 64})
	if err == nil {
		g.kvs = resp.Kvs
	}
}

// weighted returns an index with a probability that is proportional to its weight.
func (g *generator) weighted(weights []int) int {
	sum := 0
	for _, w := range weights {
		sum += w
	}
	n := g.rng.IntN(sum)
	for i, w := range weights {
		if n -= w; n < 0 {
			return i
		}
	}
	return 0
}

// chance is true in percent of 100 calls.
func (g *generator) chance(percent int) bool { return g.rng.IntN(100) < percent }

// one returns one of the values.
func one[T any](g *generator, values ...T) T { return values[g.rng.IntN(len(values))] }

func (g *generator) key() []byte {
	switch n := g.rng.IntN(100); {
	case n < 84:
		return g.keys[g.rng.IntN(len(g.keys))]
	case n < 98:
		return []byte(one(g, nastyKeys...))
	case n < 99:
		return []byte(g.prefix + strings.Repeat("x", 1+g.rng.IntN(5000)))
	default:
		return nil
	}
}

// rangeEnd returns an end for ranges that start at key: none, a prefix, another key (perhaps a smaller one), or
// the end of the key space.
func (g *generator) rangeEnd(key []byte) []byte {
	switch g.weighted([]int{35, 15, 15, 8, 4, 6, 8, 3, 1}) {
	case 0:
		return nil
	case 1:
		return prefixEnd([]byte(g.prefix))
	case 2:
		return g.key()
	case 3:
		return []byte{0}
	case 4:
		return key
	case 5:
		return append(bytes.Clone(key), 0)
	case 6:
		return prefixEnd(key)
	case 7:
		return []byte("\xff")
	default:
		return []byte{0, 0}
	}
}

// prefixEnd returns the first key after all keys with the prefix.
func prefixEnd(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return end[:i+1]
		}
	}
	return []byte{0}
}

// revision returns a revision to read at; 0 means now.
func (g *generator) revision() int64 {
	head, compacted := g.run.head, g.run.compacted
	switch g.weighted([]int{60, 4, 20, 4, 4, 2, 2, 2, 1, 1}) {
	case 0:
		return 0
	case 1:
		return head
	case 2:
		return head - g.rng.Int64N(40)
	case 3:
		return compacted + g.rng.Int64N(3) - 1
	case 4:
		return compacted + g.rng.Int64N(max(head-compacted, 1)+1)
	case 5:
		return head + 1
	case 6:
		return head + 1 + g.rng.Int64N(50)
	case 7:
		return one[int64](g, -1, -2, -100)
	case 8:
		return 1
	default:
		return one[int64](g, math.MaxInt64, math.MinInt64)
	}
}

// filterRevision returns a bound for mod or create revisions.
func (g *generator) filterRevision() int64 {
	return one(g, 0, 0, 0, g.run.head-g.rng.Int64N(30), g.run.head, g.run.head+1, 1, -1)
}

func (g *generator) value() []byte {
	switch n := g.rng.IntN(4000); {
	case n < 600:
		return nil
	case n < 2400:
		return []byte(one(g, "v", "v1", "v2", "w\x00", "\xff"))
	case n < 3930:
		return fmt.Appendf(nil, "%x", g.rng.Uint64()>>g.rng.IntN(60))
	case n < 3996:
		return bytes.Repeat([]byte{byte(n)}, 1+g.rng.IntN(20_000))
	default:
		return bytes.Repeat([]byte{'L'}, one(g, 600<<10, 1<<20, 1500<<10, 1600<<10, 3<<20))
	}
}

// lease returns a lease id for a put: mostly none, sometimes one that does not exist.
func (g *generator) lease() int64 {
	ids := g.run.leaseIDs()
	switch n := g.rng.IntN(100); {
	case n < 70 || (n < 94 && len(ids) == 0):
		return 0
	case n < 94:
		return ids[g.rng.IntN(len(ids))]
	default:
		return one[int64](g, 7777, -3, math.MaxInt64, math.MinInt64)
	}
}
