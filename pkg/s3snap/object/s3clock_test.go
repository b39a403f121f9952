package object_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
)

// byItsClock answers as S3 does whose clock differs from that of the client by so much: requests that were signed more
// than 15 minutes from its time it refuses.
func byItsClock(off *time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		now := time.Now().Add(*off)
		w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
		signed, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
		if err != nil || now.Sub(signed).Abs() > 15*time.Minute {
			refuse(http.StatusForbidden, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.")(w, r)
			return
		}
		w.Header().Set("ETag", `"1"`)
	}
}

// TestClockIsNotThatOfTheServer: after a jump of either clock one write may fail, as one may at any time; the next ones
// are signed by the server's time. That is no refusal for good, which would end a node.
func TestClockIsNotThatOfTheServer(t *testing.T) {
	var off time.Duration
	store, _ := serve(t, nil, byItsClock(&off))
	for _, off = range []time.Duration{0, time.Hour, -time.Hour, 0} {
		for try := range 3 {
			_, err := store.Put(t.Context(), "a", []byte("x"), object.Condition{})
			if errors.Is(err, object.ErrDenied) || err != nil && !errors.Is(err, object.ErrUnavailable) || err != nil && try > 0 {
				t.Errorf("the clock is off by %s, try %d: %v", -off, try+1, err)
			}
		}
		if err := calls["stat"](t.Context(), store); err != nil {
			t.Errorf("the clock is off by %s: %v", -off, err)
		}
	}
}
