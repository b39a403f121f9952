package node

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/peer"
	"github.com/kinsy/kinsy/pkg/s3snap"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Times of the directory.
const (
	directoryEvery   = 10 * time.Second
	directorySoonest = 200 * time.Millisecond
	directoryAgain   = time.Second
	directoryTimeout = 5 * time.Second
	// directoryFresh is how old an answer to clients may be, and how long they wait for a newer one.
	directoryFresh = time.Second
)

// directory knows who the nodes of the cluster are and where: what object storage says of them, and what this node has
// learnt before it stopped to answer. Its methods may be called concurrently.
type directory struct {
	control *s3snap.Control
	self    elect.NodeID
	called  string // this node's name
	path    string // of what is known, for a start without object storage
	tell    func([]peer.Peer)
	// register registers this node, with what its disk holds; fail ends it. All are set once, before run.
	register func(context.Context) error
	holds    func() (sqllog.Epoch, sqllog.ID)
	fail     func(error)
	clock    *clockWatch
	log      *logrus.Logger

	mu   sync.Mutex
	ours bool // this process has registered
	// recorded is when what the disk holds was registered last, by clock.elapsed.
	recorded time.Duration
	known    knownCluster
	asked    time.Time                  // when a client had it read last
	written  []byte                     // what the file holds
	wanted   chan struct{}              // size one: somebody is not known
	missed   map[elect.NodeID]time.Time // when those were looked for who are not known
}

// knownCluster is what object storage has said last.
type knownCluster struct {
	Cluster elect.Cluster
	Nodes   []s3snap.Registration
	Members map[string]uint64 // etcd's member ids by name
}

// directoryFile is the name of the file, in the data folder, of what is known.
const directoryFile = "cluster.json"

func newDirectory(control *s3snap.Control, self elect.NodeID, folder string, tell func([]peer.Peer), log *logrus.Logger) *directory {
	return &directory{
		control: control, self: self, path: filepath.Join(folder, directoryFile), tell: tell, log: log, wanted: make(chan struct{}, 1),
		missed: make(map[elect.NodeID]time.Time), clock: newClockWatch(log),
	}
}

// recall takes what a process before this one has known; it reports false if there is nothing of this disk's.
func (d *directory) recall() (elect.Cluster, bool) {
	body, err := os.ReadFile(d.path)
	var k knownCluster
	if err != nil || json.Unmarshal(body, &k) != nil {
		return elect.Cluster{}, false
	}
	d.learn(k, body)
	_, ok := d.find(d.self)
	return k.Cluster, ok
}

// learn makes k what is known.
func (d *directory) learn(k knownCluster, written []byte) {
	var peers []peer.Peer
	for _, n := range k.Nodes {
		if n.ID != d.self {
			peers = append(peers, peer.Peer{ID: n.ID, Name: n.Name, Address: n.PeerAddress})
		}
	}
	d.mu.Lock()
	d.known = k
	for _, n := range k.Nodes {
		delete(d.missed, n.ID)
	}
	if written != nil {
		d.written = written
	}
	d.mu.Unlock()
	d.tell(peers)
}

// remember writes what is known to the disk, if that has changed.
func (d *directory) remember() {
	d.mu.Lock()
	defer d.mu.Unlock()
	body, err := json.Marshal(d.known)
	if err != nil || bytes.Equal(body, d.written) {
		return
	}
	temporary := d.path + ".tmp"
	if err = os.WriteFile(temporary, body, 0o600); err == nil {
		err = os.Rename(temporary, d.path)
	}
	if err != nil {
		d.log.WithError(err).Warn("what is known of the cluster could not be written")
		return
	}
	d.written = body
}

func (d *directory) cluster() elect.Cluster {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.known.Cluster
}

// refresh reads the registrations.
func (d *directory) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, directoryTimeout)
	defer cancel()
	nodes, err := d.control.Registrations(ctx)
	if err != nil {
		return err
	}
	names := make([]string, len(nodes))
	for i, n := range nodes {
		names[i] = n.Name
	}
	members, err := d.control.MemberIDs(ctx, names...)
	if err != nil {
		return err
	}
	cluster, err := d.control.Read(ctx)
	if err != nil {
		return err
	}
	d.learn(knownCluster{Cluster: cluster, Nodes: nodes, Members: members}, nil)
	d.remember()
	return nil
}

// freshen reads the registrations for a client, if that was not done within the last second. Clients cost object storage
// no more than that, and wait no longer for it.
func (d *directory) freshen(ctx context.Context) error {
	d.mu.Lock()
	fresh := time.Since(d.asked) < directoryFresh
	if !fresh {
		d.asked = time.Now()
	}
	d.mu.Unlock()
	if fresh {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, directoryFresh)
	defer cancel()
	return d.refresh(ctx)
}

// run refreshes from time to time, and soon after somebody unknown was heard, until ctx ends.
func (d *directory) run(ctx context.Context) {
	timer := time.NewTimer(directoryEvery)
	defer timer.Stop()
	failing := false
	for {
		d.clock.look()
		select {
		case <-timer.C:
		case <-d.wanted:
		case <-ctx.Done():
			return
		}
		err := d.refreshAll(ctx)
		if errors.Is(err, ErrCloned) || errors.Is(err, ErrOldDisk) {
			d.fail(fmt.Errorf("register: %w", err))
			return
		}
		if (err != nil) != failing && ctx.Err() == nil {
			failing = err != nil
			if failing {
				d.log.WithError(err).Warn("object storage does not tell who the nodes are")
			} else {
				d.log.Info("object storage tells again who the nodes are")
			}
		}
		pause := time.NewTimer(directorySoonest)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return
		}
		timer.Reset(directoryEvery)
	}
}

// look asks for a refresh if a node is not known; for one that is gone not too often.
func (d *directory) look(n elect.NodeID) {
	if _, known := d.find(n); known || n == 0 {
		return
	}
	d.mu.Lock()
	at, again := d.missed[n]
	if again = again && time.Since(at) < directoryAgain; !again {
		d.missed[n] = time.Now()
	}
	d.mu.Unlock()
	if again {
		return
	}
	select {
	case d.wanted <- struct{}{}:
	default:
	}
}

func (d *directory) find(n elect.NodeID) (s3snap.Registration, bool) {
	return d.first(func(r s3snap.Registration) bool { return r.ID == n })
}

// name tells a node's name, and whether its disk is gone for good: no registration names it any more.
// Who is not known is looked for.
func (d *directory) name(n elect.NodeID) (name string, gone bool) {
	d.look(n)
	r, known := d.find(n)
	d.mu.Lock()
	read := len(d.known.Nodes) > 0
	d.mu.Unlock()
	return r.Name, read && !known
}

// memberID is etcd's id of a node; 0 if it is not known.
func (d *directory) memberID(n elect.NodeID) uint64 {
	r, known := d.find(n)
	if !known {
		return 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.known.Members[r.Name]
}

// node finds the node with a member id of etcd's.
func (d *directory) node(member uint64) (elect.NodeID, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.known.Nodes {
		if d.known.Members[r.Name] == member {
			return r.ID, true
		}
	}
	return 0, false
}

// list names all nodes as etcd's members, with peer URLs of a scheme. Those that do not vote are learners.
func (d *directory) list(scheme string, voters []elect.NodeID) []*pb.Member {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []*pb.Member
	for _, r := range d.known.Nodes {
		all = append(all, &pb.Member{
			ID: d.known.Members[r.Name], Name: r.Name, PeerURLs: []string{scheme + "://" + r.PeerAddress}, ClientURLs: r.ClientURLs,
			IsLearner: !slices.Contains(voters, r.ID),
		})
	}
	slices.SortFunc(all, func(a, b *pb.Member) int { return cmp.Compare(a.ID, b.ID) })
	return all
}
