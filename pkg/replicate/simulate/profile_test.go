package simulate

import (
	"math/rand/v2"
	"time"

	"github.com/kinsy/kinsy/pkg/elect"
)

// profile is what a schedule is like. Probabilities are per event of their kind,
// times are upper bounds.
type profile struct {
	nodes, voters int
	rule          elect.Rule
	length        time.Duration // of the time in which things fail
	skew          float64       // of clocks' rates

	heartbeat, suspicion time.Duration

	fsync time.Duration // of a transaction

	latency, slowness, streamLag time.Duration // of the network
	lost, twice, slow, breaks    float64

	storeTime, storeLate   time.Duration // of object storage
	storeFails, storeLoses float64

	writeEvery, readEvery, uploadEvery, patience time.Duration
	memberEvery, keepEvery, minAge               time.Duration
	needChain                                    float64

	faultEvery, downFor, cutFor, freeze, outage time.Duration
	weights                                     []int // of the faults
	crashEvent                                  int   // the event after which its process dies; 0 for none
}

// pick gives one of some values.
func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// newProfile draws what a schedule is like.
func newProfile(r *rand.Rand) profile {
	p := profile{
		nodes: pick(r, 3, 3, 5), rule: pick[elect.Rule](r, -1, -1, -1, 0, 1, 2),
		length: pick(r, 2*second, 4*second, 8*second), skew: pick(r, 0, 0.02),
		heartbeat: 100 * ms, suspicion: 700 * ms,
		fsync:   pick(r, 2*ms, 2*ms, 10*ms, 60*ms),
		latency: pick(r, 1*ms, 1*ms, 4*ms), slowness: pick(r, 50*ms, 400*ms, 2*second), streamLag: pick(r, 0, 0, 20*ms, 100*ms),
		lost: pick(r, 0, 0.02, 0.1), twice: pick(r, 0, 0.05), slow: pick(r, 0, 0.02, 0.1), breaks: pick(r, 0, 0, 0.01),
		storeTime: pick(r, 10*ms, 10*ms, 60*ms), storeLate: pick(r, 50*ms, second, 3*second),
		storeFails: pick(r, 0, 0.02, 0.1), storeLoses: pick(r, 0, 0.02, 0.1, 0.3),
		writeEvery: pick(r, 10*ms, 25*ms, 60*ms), readEvery: pick(r, 20*ms, 50*ms),
		uploadEvery: pick(r, 20*ms, 200*ms, 2*second), patience: pick(r, 50*ms, 200*ms, second),
		memberEvery: pick(r, 20*ms, 200*ms), keepEvery: pick(r, 0, 300*ms), minAge: pick(r, 400*ms, 1200*ms),
		needChain:  pick(r, 0, 0.2),
		faultEvery: pick(r, 50*ms, 150*ms, 400*ms), downFor: pick(r, 100*ms, 800*ms, 2*second),
		cutFor: pick(r, 300*ms, second, 3*second), freeze: pick(r, 200*ms, second, 3*second), outage: pick(r, 300*ms, 2*second),
	}
	if r.IntN(2) == 0 { // more elections in the same time
		p.heartbeat, p.suspicion = 40*ms, 250*ms
	}
	p.voters = p.nodes - pick(r, 0, 0, 1)
	if p.nodes == 5 {
		p.voters = pick(r, 3, 5)
	}
	for _, f := range faults {
		p.weights = append(p.weights, f.weight*pick(r, 0, 1, 1, 4))
	}
	if r.IntN(2) == 0 {
		p.crashEvent = r.IntN(4000)
	}
	p.kind(pick(r, usual, usual, usual, sleepy, restless, busy, moving, moving, stale), r)
	return p
}

// kind makes a schedule one of a kind.
func (p *profile) kind(k func(*profile, *rand.Rand), r *rand.Rand) { k(p, r) }

// usual: anything may happen.
func usual(*profile, *rand.Rand) {}

// sleepy: Primaries sleep while others take their place, and chunks are deleted soon.
func sleepy(p *profile, _ *rand.Rand) {
	p.keepEvery, p.minAge = 100*ms, 300*ms
	p.faultEvery, p.freeze = 400*ms, 3*second
	p.only("freeze", "election")
}

// restless: one election follows the other while Primaries work, and the network
// and the disks delay what they say.
func restless(p *profile, r *rand.Rand) {
	p.slow, p.slowness, p.streamLag = 0.1, 300*ms, pick(r, 0, 50*ms)
	p.lost, p.fsync = pick(r, 0, 0.3), pick(r, 2*ms, 40*ms, 100*ms)
	p.uploadEvery, p.patience = 2*second, pick(r, 50*ms, second)
	p.nodes, p.voters, p.rule = 3, 3, elect.Majority
	p.faultEvery, p.downFor, p.cutFor = 250*ms, 300*ms, 400*ms
	p.writeEvery, p.readEvery = pick(r, 10*ms, 100*ms), 5*ms
	p.only("election", "split", "split", "split", "partition", "crash")
}

// busy: an Elector that does not reach the Primary audits nodes whose disks are
// slow and whose Primary goes on.
func busy(p *profile, r *rand.Rand) {
	p.nodes, p.voters, p.rule = 3, 3, elect.Majority
	p.lost, p.slow, p.streamLag, p.breaks, p.needChain = 0, 0, 0, 0, 0
	p.fsync, p.latency, p.storeTime = pick(r, 2*ms, 10*ms), ms, 5*ms
	p.uploadEvery, p.patience = 2*second, pick(r, 50*ms, second)
	p.writeEvery, p.readEvery = pick(r, 5*ms, 100*ms), 5*ms
	p.faultEvery, p.cutFor = 500*ms, 800*ms
	p.only("pinch")
}

// stale: Replicas hear an old Primary, and take rows of a newer one from the chain.
func stale(p *profile, _ *rand.Rand) {
	p.uploadEvery, p.patience = 2*second, 2*second
	p.needChain, p.breaks = 0.5, 0.05
	p.storeFails, p.storeLoses = 0, 0
	p.nodes, p.voters, p.rule = 5, 5, elect.Majority
	p.faultEvery, p.cutFor, p.downFor = 400*ms, 2*second, 100*ms
	p.only("partition", "partition", "disk")
	p.heartbeat, p.suspicion = 100*ms, 700*ms
}

// moving: voters come and go while there are elections.
func moving(p *profile, r *rand.Rand) {
	p.nodes, p.voters = 5, pick(r, 3, 5)
	p.rule = pick[elect.Rule](r, elect.Majority, elect.Majority, 1, 2)
	p.streamLag, p.memberEvery = pick(r, 100*ms, 300*ms), 2*ms
	p.storeTime, p.lost = 5*ms, pick(r, 0.1, 0.3)
	p.uploadEvery, p.patience = 2*second, second
	p.faultEvery, p.writeEvery, p.cutFor = 300*ms, 5*ms, 400*ms
	p.needChain = 0
	p.only("members", "upheaval", "upheaval", "upheaval", "partition")
}

// only lets nothing happen but some faults.
func (p *profile) only(names ...string) {
	p.heartbeat, p.suspicion = 40*ms, 250*ms
	for i, f := range faults {
		p.weights[i] = 0
		for _, name := range names {
			if name == f.name {
				p.weights[i]++
			}
		}
	}
}
