package elect

import "github.com/kinsy/kinsy/pkg/sqllog"

// Effect is something that a Core wants to be done. Effects are begun in order;
// each but Send and StepDown is answered by a call, at any later time, unless the
// process ends first.
type Effect interface{ effect() }

type (
	// Send a message; it may be lost.
	Send struct {
		To      NodeID
		Message Message
	}
	// Promise makes durable that nothing below Epoch is taken any more:
	// Core.Promised or Core.PromiseFailed.
	Promise struct{ Epoch sqllog.Epoch }
	// StepDown says that the node is not the Primary, or Candidate, of Epoch any more. When
	// the effect is done nothing is appended, committed by receipts, read or
	// streamed in its name; only a chunk on its way may still be created.
	StepDown struct{ Epoch sqllog.Epoch }
	// Follow the Primary of Epoch, which is promised. It replaces any Follow before.
	Follow struct {
		Primary NodeID
		Epoch   sqllog.Epoch
	}
	// TakeLock takes the Elector's lock, even from another node if Force, else when
	// that has let it expire: Core.Locked.
	TakeLock struct{ Force bool }
	// Raise raises the epoch in cluster.json above Above, or leaves it alone if it is
	// above Above already, since another Elector is at work: Core.EpochRaised.
	Raise struct{ Above sqllog.Epoch }
	// Lead tries to become the Primary of Cluster.Epoch: Core.Led.
	Lead struct{ Cluster Cluster }
	// Confirmed says that reads that wait for a round of this Primary, or an earlier one, are
	// confirmed.
	Confirmed struct {
		Epoch sqllog.Epoch
		Round uint64
	}
)

func (Send) effect()      {}
func (Promise) effect()   {}
func (StepDown) effect()  {}
func (Follow) effect()    {}
func (TakeLock) effect()  {}
func (Raise) effect()     {}
func (Lead) effect()      {}
func (Confirmed) effect() {}
