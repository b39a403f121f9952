package history

import (
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestFollowerFindsWhatAWatchMustNotDo gives a follower responses that break a promise.
func TestFollowerFindsWhatAWatchMustNotDo(t *testing.T) {
	ev := func(rev int64) *clientv3.Event {
		return &clientv3.Event{Type: clientv3.EventTypePut, Kv: &mvccpb.KeyValue{Key: []byte("a"), ModRevision: rev}}
	}
	for name, test := range map[string]struct {
		first, second []*clientv3.Event
		progress      int64
		fault         bool
	}{
		"in order":                     {first: []*clientv3.Event{ev(2), ev(2), ev(3)}, second: []*clientv3.Event{ev(5)}},
		"repeated":                     {first: []*clientv3.Event{ev(2)}, second: []*clientv3.Event{ev(2)}, fault: true},
		"out of order":                 {first: []*clientv3.Event{ev(3), ev(2)}, fault: true},
		"a revision in two responses":  {first: []*clientv3.Event{ev(2), ev(3)}, second: []*clientv3.Event{ev(3), ev(4)}, fault: true},
		"newer than the response":      {first: []*clientv3.Event{ev(11)}, fault: true},
		"older than promised progress": {first: []*clientv3.Event{ev(2)}, progress: 4, second: []*clientv3.Event{ev(3)}, fault: true},
	} {
		f := NewFollower("", 1)
		err := f.add(test.first, 10)
		f.progress(test.progress)
		if err == nil {
			err = f.add(test.second, 10)
		}
		if (err != nil) != test.fault {
			t.Errorf("%s: %v", name, err)
		}
	}
}
