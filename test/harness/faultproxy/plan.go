package faultproxy

import (
	"fmt"
	"time"
)

// Fault is what happens to one request.
type Fault int

// Faults. "Not passed on" means that the store never hears of the request.
const (
	None        Fault = iota
	ServerError       // answered with 500; not passed on
	SlowDown          // answered with 503 SlowDown; not passed on
	CutBefore         // the connection is closed; not passed on
	CutRequest        // half of the body is passed on, then both connections are closed
	CutResponse       // done; half of the answer comes back, then the connection is closed
	LostAnswer        // done; the connection is closed without an answer
	ErrorAfter        // done; answered with 500
	Late              // the connection is closed; passed on up to Plan.LateBy later
	Twice             // passed on two times, one after the other; answered with the second answer
	Hold              // not passed on, nor answered until the client leaves or the plan changes
	HoldAnswer        // done; not answered until the client leaves or the plan changes
	Delay             // passed on up to Plan.MaxDelay later
	faultCount
)

var faultNames = [faultCount]string{"none", "server error", "slow down", "cut before", "cut request", "cut response", "lost answer",
	"error after", "late", "twice", "hold", "hold answer", "delay"}

// String names the fault.
func (f Fault) String() string {
	if f < 0 || f >= faultCount {
		return fmt.Sprintf("fault %d", int(f))
	}
	return faultNames[f]
}

// Plan says what a Proxy does to requests. The zero value passes all of them on. A Plan must not be changed after Set.
type Plan struct {
	Name string
	// Chance is the probability of each fault; together at most 1.
	Chance map[Fault]float64
	// Only limits the faults to some requests; nil means all.
	Only func(Request) bool
	// Latency is the least time from a request's arrival to its answer.
	Latency time.Duration
	// MaxDelay and LateBy are the longest waits of Delay and Late.
	MaxDelay, LateBy time.Duration
	// Rate is how many requests a second are not answered with 503 SlowDown; 0 means all.
	Rate int
	// IgnoreConditions takes If-Match and If-None-Match away, as a store that does not know them would.
	IgnoreConditions bool
}

// Outage returns the plan of a store that refuses every connection.
func Outage() Plan { return Plan{Name: "outage", Chance: map[Fault]float64{CutBefore: 1}} }

// Silence returns the plan of a store that never answers.
func Silence() Plan { return Plan{Name: "silence", Chance: map[Fault]float64{Hold: 1}} }

// draw returns the fault for a number from [0,1).
func (p *Plan) draw(x float64) Fault {
	for f := None + 1; f < faultCount; f++ {
		if x -= p.Chance[f]; x < 0 {
			return f
		}
	}
	return None
}
