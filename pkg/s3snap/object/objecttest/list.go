package objecttest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
)

func (s *suite) list() {
	for _, key := range []string{"chunks/3", "chunks/1", "chunks/2", "cluster.json", "snapshots/1.rows", "snapshots/1.json", "chunk"} {
		s.put(key, content(1, len(key)))
	}
	s.lists("chunks/", "", "chunks/1", "chunks/2", "chunks/3")
	s.lists("chunks", "", "chunks/1", "chunks/2", "chunks/3")
	s.lists("chunk", "", "chunk", "chunks/1", "chunks/2", "chunks/3")
	s.lists("c", "chunks/2", "chunks/3", "cluster.json")
	s.lists("chunks/", "chunks/1", "chunks/2", "chunks/3")
	s.lists("chunks/", "chunks/10", "chunks/2", "chunks/3")
	s.lists("chunks/", "chunks/", "chunks/1", "chunks/2", "chunks/3")
	s.lists("chunks/", "chunks/3")
	s.lists("chunks/", "a", "chunks/1", "chunks/2", "chunks/3")
	s.lists("chunks/", "d")
	s.lists("chunks/2", "", "chunks/2")
	s.lists("snapshots/1.", "", "snapshots/1.json", "snapshots/1.rows")
	s.lists("snapshots/1.", "snapshots/1.json", "snapshots/1.rows")
	s.lists("none", "")
	s.lists("", "", "chunk", "chunks/1", "chunks/2", "chunks/3", "cluster.json", "snapshots/1.json", "snapshots/1.rows")

	s.ok(s.store.List(s.ctx, "", "", func(info object.Info) error {
		if info.Size != int64(len(info.Key)) || info.Version != "" {
			return fmt.Errorf("listed as %+v", info)
		}
		return nil
	}))
	enough := errors.New("enough")
	var seen []string
	err := s.store.List(s.ctx, "chunks/", "", func(info object.Info) error {
		if seen = append(seen, info.Key); len(seen) == 2 {
			return enough
		}
		return nil
	})
	if err != enough || !slices.Equal(seen, []string{"chunks/1", "chunks/2"}) {
		s.Fatalf("got error %v after %q", err, seen)
	}
}

// listOrder has keys whose order is not that of their folders.
func (s *suite) listOrder() {
	keys := []string{"a-b", "a/b", "a/b-c", "a.b", "a0", "a/c/d", "a/c-d", "b", "a/b/x", "B", "~", "a/c/d-e"}
	conflict := map[string]bool{"a/b": true} // no file can be beside a folder of the same name
	var put []string
	for _, key := range keys {
		if !conflict[key] {
			s.put(key, nil)
			put = append(put, key)
		}
	}
	slices.Sort(put)
	s.lists("", "", put...)
	for i, after := range put {
		s.lists("", after, put[i+1:]...)
	}
	for _, prefix := range []string{"a", "a/", "a/c", "a/c/", "b"} {
		var want []string
		for _, key := range put {
			if strings.HasPrefix(key, prefix) {
				want = append(want, key)
			}
		}
		s.lists(prefix, "", want...)
	}
}

// listPages has more objects than S3 lists, or deletes, at once.
func (s *suite) listPages() {
	const count = 1203
	var want []string
	for i := range count {
		want = append(want, fmt.Sprintf("chunks/%020d", i*7+1))
	}
	var writers sync.WaitGroup
	errs := make(chan error, count)
	for w := range 16 {
		writers.Go(func() {
			for i := w; i < count; i += 16 {
				_, err := s.store.Put(s.ctx, want[i], []byte("x"), object.Condition{IfAbsent: true})
				errs <- err
			}
		})
	}
	writers.Wait()
	for range count {
		s.ok(<-errs)
	}
	s.lists("chunks/", "", want...)
	s.lists("", want[100], want[101:]...)
	s.lists("chunks/", want[count-2], want[count-1])
	s.ok(s.store.Delete(s.ctx, want[:count-1]...))
	s.lists("", "", want[count-1])
}

// listAndChange changes the store from within a List.
func (s *suite) listAndChange() {
	var want []string
	for i := range 10 {
		want = append(want, fmt.Sprintf("chunks/%d", i))
		s.put(want[i], nil)
	}
	var got []string
	s.ok(s.store.List(s.ctx, "chunks/", "", func(info object.Info) error {
		got = append(got, info.Key)
		if _, err := s.store.Put(s.ctx, "snapshots/"+info.Key, nil, object.Condition{}); err != nil {
			return err
		}
		return s.store.Delete(s.ctx, info.Key)
	}))
	if !slices.Equal(got, want) {
		s.Fatalf("listed %q", got)
	}
	s.lists("chunks/", "")
	if n := len(s.keys("snapshots/", "")); n != len(want) {
		s.Fatalf("%d objects, want %d", n, len(want))
	}
}
