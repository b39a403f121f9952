package faultproxy

import (
	"maps"
	"time"
)

// Stats counts what a Proxy has seen since its start or the last Reset.
type Stats struct {
	Requests   map[Op]int64
	Faults     map[Fault]int64
	Puts       map[string]int // by key, as the client has sent them
	MostAtOnce map[string]int // by folder: PUTs under way together, as the client sees it
	BodyBytes  int64          // of all requests
	PutTime    time.Duration  // of all PUTs that have ended, from arrival to answer
}

func newStats() Stats {
	return Stats{Requests: map[Op]int64{}, Faults: map[Fault]int64{}, Puts: map[string]int{}, MostAtOnce: map[string]int{}}
}

func (s Stats) clone() Stats {
	s.Requests, s.Faults = maps.Clone(s.Requests), maps.Clone(s.Faults)
	s.Puts, s.MostAtOnce = maps.Clone(s.Puts), maps.Clone(s.MostAtOnce)
	return s
}

// Total is the number of requests.
func (s Stats) Total() (n int64) {
	for _, count := range s.Requests {
		n += count
	}
	return n
}

// Faulted is the number of requests that did not get an answer of the store in time and whole.
func (s Stats) Faulted() (n int64) {
	for _, count := range s.Faults {
		n += count
	}
	return n
}
