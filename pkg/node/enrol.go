package node

import (
	"context"
	"slices"
	"time"

	"github.com/kinsy/kinsy/pkg/s3snap"
)

// recordEvery is how often a registration tells that the disk holds more rows. That another epoch is promised it tells at
// the next refresh: a disk that has forgotten a promise does more harm than one that lacks rows.
const recordEvery = time.Minute

// enrol registers this node, reads who is registered, and compares the clocks.
func (d *directory) enrol(ctx context.Context) error {
	before := d.clock.wall()
	if err := d.register(ctx); err != nil {
		return err
	}
	after := d.clock.wall()
	d.mu.Lock()
	d.ours = true
	d.mu.Unlock()
	if err := d.refresh(ctx); err != nil {
		return err
	}
	if me, known := d.own(); known {
		d.clock.compare(before, after, me.Written)
		d.mu.Lock()
		d.recorded = d.clock.elapsed()
		d.mu.Unlock()
	}
	return nil
}

// refreshAll refreshes, and registers this node again if it is not registered any more (it was gone for long, or another
// one was quicker to remove it than it was to come back) or if its disk holds more by now. ErrCloned: another process has
// registered with this disk, or with this name, and lives.
func (d *directory) refreshAll(ctx context.Context) error {
	d.mu.Lock()
	ours := d.ours
	d.mu.Unlock()
	if err := d.refresh(ctx); err != nil {
		return err
	}
	if !ours {
		return nil // it has started without object storage, and is to register yet
	}
	me, known := d.own()
	if !known {
		d.log.Warn("this node is not registered any more; it registers again")
		return d.enrol(ctx)
	}
	if _, process := d.control.IsOwn(me); !process {
		return cloned(me, true)
	}
	if twin, found := d.twin(); found && twin.Name < me.Name { // one of two that started at once goes on
		return cloned(twin, true)
	}
	if d.holdsMore(me) {
		return d.enrol(ctx)
	}
	return nil
}

// own is this node's registration, as it was last read.
func (d *directory) own() (s3snap.Registration, bool) {
	return d.first(func(r s3snap.Registration) bool { return r.ID == d.self && r.Name == d.called })
}

// twin is one of this node's disk under another name.
func (d *directory) twin() (s3snap.Registration, bool) {
	return d.first(func(r s3snap.Registration) bool { return r.ID == d.self && r.Name != d.called })
}

func (d *directory) first(is func(s3snap.Registration) bool) (s3snap.Registration, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := slices.IndexFunc(d.known.Nodes, is)
	if i < 0 {
		return s3snap.Registration{}, false
	}
	return d.known.Nodes[i], true
}

// holdsMore reports whether it is time to record what the disk holds by now, so that an older copy of it is recognised.
func (d *directory) holdsMore(me s3snap.Registration) bool {
	promised, last := d.holds()
	d.mu.Lock()
	age := d.clock.elapsed() - d.recorded
	d.mu.Unlock()
	return promised > me.Promised || last > me.Last && age >= recordEvery
}
