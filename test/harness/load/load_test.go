package load

import (
	"context"
	"errors"
	"strings"
	"testing"
)

var errSome = errors.New("some error")

// TestLoadCountsAndStops awaits requests of two clients, twice.
func TestLoadCountsAndStops(t *testing.T) {
	var l Load
	one := Client{Name: "one", One: func(context.Context) error {
		l.Add()
		return nil
	}}
	for range 2 {
		before := l.Count()
		l.Start(t.Context(), one, one)
		if err := l.Await(t.Context(), 100); err != nil {
			t.Fatal(err)
		}
		l.Stop()
		l.Wait()
		if l.Count() < before+100 || l.Err() != nil || l.Last().Year() < 2000 {
			t.Errorf("%d requests after %d, the last at %s: %v", l.Count(), before, l.Last(), l.Err())
		}
	}
}

// TestErrorsThatAreFaults lets clients meet errors, with and without being told to stop before.
func TestErrorsThatAreFaults(t *testing.T) {
	for name, test := range map[string]struct {
		err    error
		strict bool
		stop   bool // before the error
		fault  bool
	}{
		"an error that says something":         {err: errSome, fault: true},
		"an answer that is missing":            {err: context.DeadlineExceeded},
		"any error where none may be":          {err: context.DeadlineExceeded, strict: true, fault: true},
		"any error when all is to end":         {err: errSome, strict: true, stop: true},
		"an error that says something, at end": {err: errSome, stop: true, fault: true},
	} {
		var l Load
		var told error
		calls := 0
		l.Start(t.Context(), Client{Name: "one", Strict: test.strict, Fault: func(err error) { told = err }, One: func(context.Context) error {
			if calls++; calls > 1 || test.stop {
				l.Stop()
			}
			return test.err
		}})
		l.Wait()
		if err := l.Err(); (err != nil) != test.fault || (told != nil) != test.fault {
			t.Errorf("%s: %v, told %v", name, err, told)
		}
	}
}

// TestAwaitEndsWithTheClients awaits what never comes.
func TestAwaitEndsWithTheClients(t *testing.T) {
	var l Load
	l.Start(t.Context(), Client{Name: "one", One: func(context.Context) error { return errSome }})
	if err := l.Await(t.Context(), 1); !errors.Is(err, errSome) || !strings.Contains(err.Error(), "1 requests early") {
		t.Errorf("ended with %v", err)
	}
	l.Wait()
	l.Start(t.Context(), Client{Name: "one", One: func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}})
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errSome)
	if err := l.Await(ctx, 1); !errors.Is(err, errSome) {
		t.Errorf("ended with %v", err)
	}
	l.GiveUp()
	l.Wait()
}
