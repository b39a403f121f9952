package objecttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
)

// together runs n functions at once and returns their errors.
func together(n int, fn func(i int) error) []error {
	errs := make([]error, n)
	start := make(chan struct{})
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			<-start
			errs[i] = fn(i)
		})
	}
	close(start)
	all.Wait()
	return errs
}

// refused says that a conditional Put wrote nothing.
func refused(err error) bool {
	return errors.Is(err, object.ErrPrecondition) || errors.Is(err, object.ErrConflict)
}

func (s *suite) racingCreates() {
	const writers = 16
	for round := range 20 {
		key := fmt.Sprintf("chunks/%020d", round)
		body := func(i int) []byte { return content(uint64(i), 1000+i) }
		winner := -1
		for i, err := range together(writers, func(i int) error {
			_, err := s.store.Put(s.ctx, key, body(i), object.Condition{IfAbsent: true})
			return err
		}) {
			switch {
			case err == nil && winner >= 0:
				s.Fatalf("%s: writers %d and %d both created it", key, winner, i)
			case err == nil:
				winner = i
			case !refused(err):
				s.Fatal(err)
			}
		}
		if winner >= 0 {
			s.holds(key, body(winner))
		} else {
			s.Logf("%s: nobody created it", key)
		}
	}
}

func (s *suite) racingSwaps() {
	const writers, each = 6, 8
	const key = "floor.json"
	s.put(key, []byte("0"))
	for _, err := range together(writers, func(int) error {
		for range each {
			if err := increment(s.ctx, s.store, key); err != nil {
				return err
			}
		}
		return nil
	}) {
		s.ok(err)
	}
	s.holds(key, []byte(strconv.Itoa(writers*each)))
}

// increment adds one to a number. It puts spaces before it so that no content comes back.
func increment(ctx context.Context, store object.Store, key string) error {
	for {
		body, info, err := object.ReadAll(ctx, store, key, 100)
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(string(body))
		if err != nil {
			return err
		}
		_, err = store.Put(ctx, key, []byte(strconv.Itoa(n+1)), object.Condition{IfVersion: info.Version})
		if !refused(err) {
			return err
		}
	}
}

// replacedReads reads an object while it is replaced: what is read is one or the other.
func (s *suite) replacedReads() {
	const key, size, writes = "cluster.json", 300_000, 30
	body := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, size+i) }
	s.put(key, body(0))
	done := make(chan struct{})
	for _, err := range together(5, func(i int) error {
		if i == 0 {
			defer close(done)
			for n := range writes {
				if _, err := s.store.Put(s.ctx, key, body(n), object.Condition{}); err != nil {
					return err
				}
			}
			return nil
		}
		for {
			select {
			case <-done:
				return nil
			default:
			}
			if err := readOne(s.ctx, s.store, key, size); err != nil {
				return err
			}
		}
	}) {
		s.ok(err)
	}
	s.holds(key, body(writes-1))
}

// readOne reads an object that is one byte, n, repeated size+n times.
func readOne(ctx context.Context, store object.Store, key string, size int) error {
	body, info, err := object.ReadAll(ctx, store, key, 1<<20)
	if err != nil {
		return err
	}
	if n := int(body[0]); len(body) != size+n || bytes.Count(body, body[:1]) != len(body) {
		return fmt.Errorf("read a mixture of %d bytes, info %+v", len(body), info)
	}
	return nil
}

func (s *suite) parallelRanges() {
	const key, parts, size = "snapshots/c.rows", 32, 3_000_001
	body := content(9, size)
	s.put(key, body)
	got := make([][]byte, parts)
	const step = size/parts + 1
	for _, err := range together(parts, func(i int) error {
		r, _, err := s.store.Get(s.ctx, key, int64(i*step), step)
		if err != nil {
			return err
		}
		defer r.Close()
		got[i], err = io.ReadAll(r)
		return err
	}) {
		s.ok(err)
	}
	if !bytes.Equal(bytes.Join(got, nil), body) {
		s.Fatal("the parts do not make the whole")
	}
}

func (s *suite) probe() {
	s.ok(object.Probe(s.ctx, s.store))
	s.lists("", "")
}
