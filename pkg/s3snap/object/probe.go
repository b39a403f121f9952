package object

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// ProbePrefix is before the keys of the objects that Probe writes, and deletes.
const ProbePrefix = "probe/"

const (
	probeRacers  = 8
	probeCleanup = 2 * time.Second
	probeMaxSize = 1 << 10
)

// Probe proves, by objects of its own, that the store honours conditional writes, also between writes at the same time,
// reads what was written, lists and deletes. ErrUnconditional is wrapped with what the store does wrong; another error is
// that of a request. It tries to leave none of its objects, but not for long: a store that does not answer is met by
// nodes that are about to start without it.
func Probe(ctx context.Context, s Store) (err error) {
	p := &prober{store: s, key: ProbePrefix + strings.ToLower(rand.Text())}
	race := p.key + "-race"
	defer func() {
		if err == nil || ctx.Err() != nil {
			return
		}
		within, cancel := context.WithTimeout(ctx, probeCleanup)
		defer cancel()
		_ = s.Delete(within, p.key, race)
	}()
	for _, step := range []func(context.Context) error{p.create, p.swap, p.list, p.remove} {
		if err := step(ctx); err != nil {
			return fmt.Errorf("probe object store: %w", err)
		}
	}
	if err := p.race(ctx, race); err != nil {
		return fmt.Errorf("probe object store: %w", err)
	}
	return nil
}

// prober is one Probe.
type prober struct {
	store   Store
	key     string
	version string // as the last Put said
	body    []byte // of the last Put
}

// put writes a new body, which must succeed. A write that is delivered twice is answered as refused: then the object
// tells.
func (p *prober) put(ctx context.Context, cond Condition) error {
	body := []byte(rand.Text())
	version, err := p.store.Put(ctx, p.key, body, cond)
	if errors.Is(err, ErrPrecondition) {
		version, err = p.written(ctx, body)
	}
	if err != nil {
		return err
	}
	if version == p.version {
		return fmt.Errorf("%w: it gives another content the same ETag", ErrUnconditional)
	}
	p.version, p.body = version, body
	return p.check(ctx)
}

// written returns the object's version if a body was written to it.
func (p *prober) written(ctx context.Context, body []byte) (version string, err error) {
	there, info, err := ReadAll(ctx, p.store, p.key, probeMaxSize)
	if errors.Is(err, ErrNotFound) || (err == nil && !bytes.Equal(there, body)) {
		err = fmt.Errorf("%w: a write whose condition holds is refused", ErrUnconditional)
	}
	return info.Version, err
}

// refuse tries a Put that must be refused, and looks that it was. what says what the store ignores if not.
func (p *prober) refuse(ctx context.Context, cond Condition, what string) error {
	switch _, err := p.store.Put(ctx, p.key, []byte(rand.Text()), cond); {
	case err == nil:
		return fmt.Errorf("%w: it ignores %s", ErrUnconditional, what)
	case !errors.Is(err, ErrPrecondition):
		return fmt.Errorf("%s is not refused but ends with: %w", what, err)
	}
	return nil
}

// check reads what the last Put wrote.
func (p *prober) check(ctx context.Context) error {
	body, info, err := ReadAll(ctx, p.store, p.key, probeMaxSize)
	switch {
	case err != nil:
		return err
	case !bytes.Equal(body, p.body):
		return fmt.Errorf("%w: it does not read what was written last", ErrUnconditional)
	case info.Version != p.version:
		return fmt.Errorf("%w: it reads another ETag than the write was answered with", ErrUnconditional)
	}
	return nil
}

func (p *prober) create(ctx context.Context) error {
	if err := p.put(ctx, Condition{IfAbsent: true}); err != nil {
		return err
	}
	if err := p.refuse(ctx, Condition{IfAbsent: true}, "If-None-Match on an object that exists"); err != nil {
		return err
	}
	return p.check(ctx)
}

func (p *prober) swap(ctx context.Context) error {
	first := p.version
	if err := p.put(ctx, Condition{IfVersion: first}); err != nil {
		return err
	}
	if err := p.refuse(ctx, Condition{IfVersion: first}, "If-Match with the ETag of an older content"); err != nil {
		return err
	}
	return p.check(ctx)
}

func (p *prober) list(ctx context.Context) error {
	found := false
	err := p.store.List(ctx, p.key, "", func(info Info) error {
		found = found || info.Key == p.key
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("%w: it does not list what was written", ErrUnconditional)
	}
	return err
}

func (p *prober) remove(ctx context.Context) error {
	if err := p.store.Delete(ctx, p.key); err != nil {
		return err
	}
	if err := p.refuse(ctx, Condition{IfVersion: p.version}, "If-Match on an object that does not exist"); err != nil {
		return err
	}
	if _, _, err := p.store.Get(ctx, p.key, 0, -1); err == nil {
		return fmt.Errorf("%w: it reads what was deleted", ErrUnconditional)
	} else if !errors.Is(err, ErrNotFound) {
		return err
	}
	return nil
}

// race lets several writers create one object. All but one are refused; that nobody wins is allowed.
func (p *prober) race(ctx context.Context, key string) error {
	errs := make([]error, probeRacers)
	start := make(chan struct{})
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			<-start
			_, errs[i] = p.store.Put(ctx, key, []byte(rand.Text()), Condition{IfAbsent: true})
		})
	}
	close(start)
	all.Wait()
	won := 0
	for _, err := range errs {
		switch {
		case err == nil:
			won++
		case !errors.Is(err, ErrPrecondition) && !errors.Is(err, ErrConflict):
			return err
		}
	}
	if won > 1 {
		return fmt.Errorf("%w: of writes at the same time with If-None-Match it let %d through", ErrUnconditional, won)
	}
	return p.store.Delete(ctx, key)
}
