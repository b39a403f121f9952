package elect

import "github.com/kinsy/kinsy/pkg/sqllog"

// Message is what the Cores of two nodes say to each other. Messages may be lost,
// repeated, delayed and reordered; none of them is believed for longer than its
// epoch lasts.
type Message interface{ message() }

type (
	// Heartbeat says that the sender is the Primary of an epoch, or a Candidate on its way to
	// be. Round asks the receiver to confirm, for linearizable reads, that it has
	// promised no higher epoch since the round began.
	Heartbeat struct {
		Epoch     sqllog.Epoch
		Round     uint64
		Candidate bool
	}
	// HeartbeatAck answers a Heartbeat. A Promise above Epoch is a refusal.
	HeartbeatAck struct {
		Epoch   sqllog.Epoch // of the Heartbeat
		Round   uint64
		Promise sqllog.Epoch
		Full    bool // the sender's disk takes no rows
	}
	// Ask is from a node that hears no Primary: does the receiver hear one?
	Ask struct{ Seq uint64 }
	// Answer answers an Ask.
	Answer struct {
		Seq uint64
		// Primary that the sender hears, or is; 0 if it hears none.
		Primary NodeID
		Epoch   sqllog.Epoch // of Primary
		// Elector: the sender holds the Elector's lock as far as it knows.
		Elector bool
	}
	// Audit asks for a promise of an epoch and for the end of the log after it.
	Audit struct{ Epoch sqllog.Epoch }
	// AuditAnswer says that the sender has promised Promise, durably, and then its log ended
	// at Last. A Promise above Epoch is a refusal.
	AuditAnswer struct {
		Epoch   sqllog.Epoch // of the Audit
		Promise sqllog.Epoch
		Last    Position
		Full    bool // the sender's disk takes no rows
	}
	// Appoint says that the receiver is to become the Primary of an epoch.
	Appoint struct{ Cluster Cluster }
	// AppointAnswer says whether the sender is on its way to be, or is, that Primary.
	AppointAnswer struct {
		Epoch    sqllog.Epoch
		Accepted bool
	}
)

func (Heartbeat) message()     {}
func (HeartbeatAck) message()  {}
func (Ask) message()           {}
func (Answer) message()        {}
func (Audit) message()         {}
func (AuditAnswer) message()   {}
func (Appoint) message()       {}
func (AppointAnswer) message() {}
