package s3snap

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// unchanged is the condition that an object is as it was read; absent, if it was
// absent.
func unchanged(info object.Info) object.Condition {
	return object.Condition{IfVersion: info.Version, IfAbsent: info.Version == ""}
}

func formatHex(n uint64) string { return fmt.Sprintf("%016x", n) }

// parseHex reads what formatHex gives.
func parseHex(s string) (n uint64, err error) {
	if _, err = fmt.Sscanf(s, "%016x", &n); err != nil || formatHex(n) != s {
		return 0, fmt.Errorf("%q is not 16 hexadecimal digits", s)
	}
	return n, nil
}

// Registration is where a node is to be found: nodes/NAME.json.
type Registration struct {
	Name        string // that of the object
	ID          elect.NodeID
	Incarnation uint64
	PeerAddress string
	ClientURLs  []string
	Version     string // of the program
	Started     int64  // milliseconds since the Unix epoch
	// Promised and Last are the newest epoch promised and a committed row of the log
	// when the node registered. A disk of the same ID that has less is an old copy.
	Promised sqllog.Epoch
	Last     sqllog.ID
	// Written is when, by the clock of object storage; zero if that is unknown.
	Written time.Time
}

// nodeFile is nodes/NAME.json.
type nodeFile struct {
	Format      int      `json:"format"`
	Name        string   `json:"name"`
	ID          string   `json:"id"` // 16 hexadecimal digits, as the next one
	Incarnation string   `json:"incarnation"`
	PeerAddress string   `json:"peer_address"`
	ClientURLs  []string `json:"client_urls"`
	Version     string   `json:"version"`
	Started     int64    `json:"started"`
	Promised    int64    `json:"promised"`
	Last        int64    `json:"last"`
}

func (r Registration) file() nodeFile {
	return nodeFile{
		Format: formatVersion, Name: r.Name, ID: r.ID.String(), Incarnation: formatHex(r.Incarnation), PeerAddress: r.PeerAddress,
		ClientURLs: r.ClientURLs, Version: r.Version, Started: r.Started, Promised: int64(r.Promised), Last: int64(r.Last),
	}
}

func (f nodeFile) registration(key string) (Registration, error) {
	id, err := elect.ParseNodeID(f.ID)
	incarnation, hexErr := parseHex(f.Incarnation)
	if err = errors.Join(err, hexErr); err != nil || nodeKey(f.Name) != key || f.Promised < 0 || f.Last < 0 {
		return Registration{}, fmt.Errorf("%w: %s is not a node's", ErrCorruptChain, key)
	}
	return Registration{
		Name: f.Name, ID: id, Incarnation: incarnation, PeerAddress: f.PeerAddress, ClientURLs: f.ClientURLs,
		Version: f.Version, Started: f.Started, Promised: sqllog.Epoch(f.Promised), Last: sqllog.ID(f.Last),
	}, nil
}

func nodeKey(name string) string { return nodePrefix + name + manifestSuffix }

// checkName refuses names that are no part of a key.
func checkName(name string) error {
	bad := strings.IndexFunc(name, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._-", r))
	})
	if name == "" || len(name) > 63 || bad >= 0 {
		return fmt.Errorf("%q is not a node's name: 1 to 63 of letters, digits, '.', '_', '-' are", name)
	}
	return nil
}

// Register writes where this node is; ID and Incarnation are Control's own. If
// there is a registration of that name by another disk or process, replaces is
// called with it, and its error is returned with nothing written: a process that
// still lives and has the same name is a clone.
func (c *Control) Register(ctx context.Context, r Registration, replaces func(there Registration) error) error {
	if err := checkName(r.Name); err != nil {
		return err
	}
	r.ID, r.Incarnation = c.self, c.incarnation
	return c.few(ctx, func() error {
		there, info, err := c.readNode(ctx, nodeKey(r.Name))
		switch {
		case errors.Is(err, object.ErrNotFound), errors.Is(err, ErrCorruptChain) && info.Version != "":
		case err != nil:
			return err
		case there.ID != r.ID || there.Incarnation != r.Incarnation:
			if err := replaces(there); err != nil {
				return err
			}
		}
		return swapped(putJSON(ctx, c.store, nodeKey(r.Name), r.file(), unchanged(info)))
	})
}

// readNode reads one registration. Of one that is not readable it returns the info,
// too.
func (c *Control) readNode(ctx context.Context, key string) (Registration, object.Info, error) {
	var f nodeFile
	info, err := readJSON(ctx, c.store, key, &f)
	if err != nil {
		return Registration{}, info, err
	}
	r, err := f.registration(key)
	r.Written = info.Modified
	return r, info, err
}

// IsOwn reports whether a registration is of this disk, and whether this process, or
// another one, wrote it.
func (c *Control) IsOwn(r Registration) (disk, process bool) {
	return r.ID == c.self, r.ID == c.self && r.Incarnation == c.incarnation
}

// nodesAtOnce is how many registrations are read at once.
const nodesAtOnce = 8

// Registrations are those of all nodes, in order of name. One that is not readable
// is left out.
func (c *Control) Registrations(ctx context.Context) (all []Registration, err error) {
	err = c.few(ctx, func() (err error) {
		all, err = c.readNodes(ctx)
		return err
	})
	return all, err
}

func (c *Control) readNodes(ctx context.Context) (all []Registration, err error) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(nodesAtOnce)
	var mu sync.Mutex
	err = c.store.List(ctx, nodePrefix, "", func(info object.Info) error {
		group.Go(func() error {
			r, _, err := c.readNode(ctx, info.Key)
			switch {
			case errors.Is(err, object.ErrNotFound):
				return nil
			case errors.Is(err, ErrCorruptChain), errors.Is(err, ErrNewerFormat):
				c.log.WithError(err).Warn("a node's registration is not readable")
				return nil
			case err != nil:
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, r)
			return nil
		})
		return nil
	})
	if err = errors.Join(group.Wait(), err); err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b Registration) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// Deregister removes a registration, if it is still the one given (ErrConflict if
// not). A node that registers at that very moment may lose its own: a node that
// does not find itself among the Registrations registers again.
func (c *Control) Deregister(ctx context.Context, r Registration) error {
	if err := checkName(r.Name); err != nil {
		return err
	}
	return c.few(ctx, func() error {
		there, _, err := c.readNode(ctx, nodeKey(r.Name))
		switch {
		case errors.Is(err, object.ErrNotFound):
			return nil
		case err != nil:
			return err
		case there.ID != r.ID || there.Incarnation != r.Incarnation:
			return fmt.Errorf("%w: node %s has registered anew", ErrConflict, r.Name)
		}
		return c.store.Delete(ctx, nodeKey(r.Name))
	})
}

// membersFile is members.json.
type membersFile struct {
	Format  int               `json:"format"`
	Members map[string]string `json:"members"` // 16 hexadecimal digits by name
}

// MemberIDs are the ids that clients know the nodes by, of all names that have one.
// The names given get one if they have none. None is ever changed, none is 0.
func (c *Control) MemberIDs(ctx context.Context, names ...string) (ids map[string]uint64, err error) {
	for _, name := range names {
		if err := checkName(name); err != nil {
			return nil, err
		}
	}
	err = c.few(ctx, func() error {
		f := membersFile{Format: formatVersion}
		info, err := readJSON(ctx, c.store, membersKey, &f)
		if err != nil && !errors.Is(err, object.ErrNotFound) {
			return err
		}
		if ids, err = f.ids(); err != nil {
			return err
		}
		if !f.add(ids, names) {
			return nil
		}
		return swapped(putJSON(ctx, c.store, membersKey, f, unchanged(info)))
	})
	if err != nil {
		return nil, err
	}
	return ids, nil
}

func (f membersFile) ids() (map[string]uint64, error) {
	ids := make(map[string]uint64, len(f.Members))
	for name, s := range f.Members {
		id, err := parseHex(s)
		if err != nil || id == 0 {
			return nil, fmt.Errorf("%w: %s at %q", ErrCorruptChain, membersKey, name)
		}
		ids[name] = id
	}
	return ids, nil
}

// add gives an id to each name that has none, and reports whether there was one.
func (f *membersFile) add(ids map[string]uint64, names []string) (added bool) {
	for _, name := range names {
		if ids[name] != 0 {
			continue
		}
		if f.Members == nil {
			f.Members = make(map[string]string)
		}
		ids[name] = rand.Uint64() | 1
		f.Members[name] = formatHex(ids[name])
		added = true
	}
	return added
}
