package apiserver

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/kinsy/kinsy/test/kubernetes/process"
)

// someWrites is how many writes of each writer make a load felt.
const someWrites = 10

// load is objects that are created, patched and watched while something happens
// to the store.
type load struct {
	cluster  *cluster
	target   string // the config map that is patched
	creators []*writer
	watchers []*watcher // of the creators' resources
	patcher  *writer
	ended    time.Time // when finish ended the writers
}

// startLoad starts a load whose objects begin with the prefix. It ends with the
// test, or by finish.
func (c *cluster) startLoad(t *testing.T, prefix string) *load {
	t.Helper()
	l := &load{cluster: c, target: "patched-" + prefix}
	c.mustCreate(t, configMaps, l.target)
	for _, r := range []resource{configMaps, events} {
		l.watchers = append(l.watchers, c.watch(t, r, c.listAll(t, r.path).Metadata.ResourceVersion))
		l.creators = append(l.creators, c.write(t, r, prefix))
	}
	l.patcher = c.writePatches(t, l.target, prefix+"-patch")
	return l
}

func (l *load) writers() []*writer { return append([]*writer{l.patcher}, l.creators...) }

// awaitMore waits until every writer has got some more acknowledged.
func (l *load) awaitMore(t *testing.T) {
	t.Helper()
	for _, w := range l.writers() {
		w.awaitMore(t, someWrites)
	}
}

// newest returns the highest version that was acknowledged.
func (l *load) newest(t *testing.T) int64 {
	t.Helper()
	newest := int64(0)
	for _, w := range l.writers() {
		versions, _ := w.acknowledged()
		for _, version := range versions {
			newest = max(newest, parseVersion(t, version))
		}
	}
	return newest
}

// finish ends the writers and checks that no acknowledged write is lost and the
// watches have no gap.
func (l *load) finish(t *testing.T) {
	t.Helper()
	for _, w := range l.writers() {
		w.finish()
		w.checkOrder(t)
	}
	l.ended = time.Now()
	for i, w := range l.creators {
		w.checkStored(t)
		w.checkWatched(t, l.watchers[i])
	}
	l.checkPatched(t)
	l.checkPatchesWatched(t)
	for _, w := range l.watchers {
		w.checkOrder(t)
		w.close()
	}
}

// checkPatched checks that the patched object is as the last acknowledged patch
// left it, or as one did that was not acknowledged.
func (l *load) checkPatched(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	var stored object
	if err := l.cluster.do(ctx, http.MethodGet, configMaps.path+"/"+l.target, nil, &stored); err != nil {
		t.Fatal(err)
	}
	versions, failed := l.patcher.acknowledged()
	at, value := parseVersion(t, stored.Metadata.ResourceVersion), stored.Data["value"]
	for name, version := range versions {
		if v := parseVersion(t, version); v > at || (v == at) != (name == value) {
			t.Errorf("patch %s: acknowledged with version %d, stored %s with %d", name, v, value, at)
		}
	}
	t.Logf("%s: %d acknowledged, %d failed", l.patcher.prefix, len(versions), failed)
}

// checkPatchesWatched checks that every acknowledged patch was watched, in the
// version that was acknowledged.
func (l *load) checkPatchesWatched(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), settleTimeout)
	defer cancel()
	versions, _ := l.patcher.acknowledged()
	err := process.Until(ctx, pollInterval, func(context.Context) error {
		seen, _, expired := l.watchers[0].events()
		if expired != nil {
			return expired
		}
		watched := map[string]string{} // value to version
		for _, event := range seen {
			if event.Type == "MODIFIED" && event.Object.Metadata.Name == l.target {
				watched[event.Object.Data["value"]] = event.Object.Metadata.ResourceVersion
			}
		}
		for name, version := range versions {
			if watched[name] != version {
				return fmt.Errorf("%w: patch %s acknowledged with version %s, watched with %q", errMissing, name, version, watched[name])
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
