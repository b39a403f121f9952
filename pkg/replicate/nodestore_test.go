package replicate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
)

// errAnswerLost has a PUT done, and its caller not told.
var errAnswerLost = fmt.Errorf("%w: the answer is lost", object.ErrUnavailable)

// nodeStore is object storage as one node reaches it.
type nodeStore struct {
	object.Store
	mu   sync.Mutex
	deny func(op object.Op, key string) error
}

func newNodeStore(s object.Store) *nodeStore { return &nodeStore{Store: s} }

// set has every request asked first; nil lets all pass.
func (s *nodeStore) set(deny func(op object.Op, key string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deny = deny
}

// down has every request fail, or none.
func (s *nodeStore) down(on bool) {
	if !on {
		s.set(nil)
		return
	}
	s.set(func(object.Op, string) error { return object.ErrUnavailable })
}

func (s *nodeStore) ask(op object.Op, key string) error {
	s.mu.Lock()
	deny := s.deny
	s.mu.Unlock()
	if deny == nil {
		return nil
	}
	return deny(op, key)
}

func (s *nodeStore) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, object.Info, error) {
	if err := s.ask(object.OpGet, key); err != nil {
		return nil, object.Info{}, err
	}
	return s.Store.Get(ctx, key, offset, length)
}

func (s *nodeStore) List(ctx context.Context, prefix, after string, fn func(object.Info) error) error {
	if err := s.ask(object.OpList, prefix); err != nil {
		return err
	}
	return s.Store.List(ctx, prefix, after, fn)
}

func (s *nodeStore) Put(ctx context.Context, key string, body []byte, cond object.Condition) (string, error) {
	err := s.ask(object.OpPut, key)
	if err != nil && !errors.Is(err, errAnswerLost) {
		return "", err
	}
	version, done := s.Store.Put(ctx, key, body, cond)
	if err != nil {
		return "", err
	}
	return version, done
}
