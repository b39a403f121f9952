package server

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kinsy/kinsy/pkg/mvcc"
	"github.com/kinsy/kinsy/pkg/replicate"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// errorCases is the table as clients must see it.
var errorCases = []struct {
	name string
	err  error
	code codes.Code
	text string
}{
	{"mvcc.ErrCompacted", mvcc.ErrCompacted, codes.OutOfRange,
		"etcdserver: mvcc: required revision has been compacted"},
	{"mvcc.ErrFutureRevision", mvcc.ErrFutureRevision, codes.OutOfRange,
		"etcdserver: mvcc: required revision is a future revision"},
	{"mvcc.ErrKeyNotFound", mvcc.ErrKeyNotFound, codes.InvalidArgument, "etcdserver: key not found"},
	{"mvcc.ErrLeaseNotFound", mvcc.ErrLeaseNotFound, codes.NotFound, "etcdserver: requested lease not found"},
	{"mvcc.ErrLeaseExists", mvcc.ErrLeaseExists, codes.FailedPrecondition, "etcdserver: lease already exists"},
	{"mvcc.ErrLeaseTTLTooLarge", mvcc.ErrLeaseTTLTooLarge, codes.OutOfRange, "etcdserver: too large lease TTL"},
	{"mvcc.ErrWatchIDInUse", mvcc.ErrWatchIDInUse, codes.InvalidArgument,
		"etcdserver: mvcc: duplicate watch ID provided on the WatchStream"},
	{"mvcc.ErrEmptyWatchRange", mvcc.ErrEmptyWatchRange, codes.InvalidArgument,
		"etcdserver: mvcc: watcher range is empty"},
	{"mvcc.ErrWatchNotFound", mvcc.ErrWatchNotFound, codes.NotFound, "etcdserver: mvcc: watcher does not exist"},
	{"mvcc.ErrClosed", mvcc.ErrClosed, codes.Unavailable, "etcdserver: server stopped"},
	{"replicate.ErrDeposed", replicate.ErrDeposed, codes.Unavailable, "etcdserver: leader changed"},
	{"replicate.ErrNoSuccessor", replicate.ErrNoSuccessor, codes.Unavailable, "etcdserver: request timed out"},
	{"replicate.ErrNoSpace", replicate.ErrNoSpace, codes.ResourceExhausted,
		"etcdserver: mvcc: database space exceeded"},
	{"replicate.ErrStopped", replicate.ErrStopped, codes.Unavailable, "etcdserver: server stopped"},
	{"replicate.ErrNotPrimary", replicate.ErrNotPrimary, codes.Unavailable, "etcdserver: no leader"},
	{"replicate.ErrUnavailable", replicate.ErrUnavailable, codes.Unavailable, "etcdserver: unhealthy cluster"},
	{"sqllog.ErrFull", sqllog.ErrFull, codes.ResourceExhausted, "etcdserver: mvcc: database space exceeded"},
	{"sqllog.ErrIO", sqllog.ErrIO, codes.Unavailable, "etcdserver: unhealthy cluster"},
	{"sqllog.ErrCorrupt", sqllog.ErrCorrupt, codes.DataLoss, "etcdserver: corrupt cluster"},
	{"sqllog.ErrMissing", sqllog.ErrMissing, codes.DataLoss, "etcdserver: corrupt cluster"},
	{"sqllog.ErrClosed", sqllog.ErrClosed, codes.Unavailable, "etcdserver: server stopped"},
}

// neverSeen are sentinels that no request can meet: opening refuses the log, and
// a commit wraps its cause in one of replicate's. Those of streams between nodes end
// a stream.
var neverSeen = []string{
	"mvcc.ErrDiverged", "mvcc.ErrPending", "replicate.ErrBadStream", "replicate.ErrOldDisk", "replicate.ErrDivergence", "sqllog.ErrPromised",
	"sqllog.ErrGap", "sqllog.ErrInvalidRow", "sqllog.ErrNewer", "sqllog.ErrForeign", "sqllog.ErrOtherCluster",
}

// TestErrorTable walks the table: code and text of every sentinel, bare and
// wrapped, alone and around a context error.
func TestErrorTable(t *testing.T) {
	if len(errorCases) != len(errorTable) {
		t.Errorf("the table has %d entries, this test %d", len(errorTable), len(errorCases))
	}
	for _, c := range errorCases {
		for _, err := range []error{
			c.err, fmt.Errorf("commit group: %w", c.err), errors.Join(c.err, context.DeadlineExceeded),
		} {
			wantStatus(t, toGRPC(err), c.code, c.text)
		}
	}
	for _, cause := range []error{sqllog.ErrFull, sqllog.ErrCorrupt, sqllog.ErrGap, sqllog.ErrClosed} {
		wantError(t, toGRPC(fmt.Errorf("%w: %w", replicate.ErrUnavailable, cause)), rpctypes.ErrGRPCUnhealthy)
	}
}

// TestEverySentinelIsInTheTable reads the source of the engine for its exported
// errors.
func TestEverySentinelIsInTheTable(t *testing.T) {
	known := slices.Clone(neverSeen)
	for _, c := range errorCases {
		known = append(known, c.name)
	}
	var found []string
	for _, pkg := range []string{"mvcc", "replicate", "sqllog"} {
		files, err := filepath.Glob(filepath.Join("..", pkg, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			for _, name := range exportedErrors(t, file) {
				found = append(found, pkg+"."+name)
			}
		}
	}
	slices.Sort(known)
	slices.Sort(found)
	if !slices.Equal(known, found) {
		t.Errorf("the engine has %v,\nthe table %v", found, known)
	}
}

// exportedErrors lists the package variables of a file named Err and more.
func exportedErrors(t *testing.T, file string) (names []string) {
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.VAR {
			continue
		}
		for _, spec := range g.Specs {
			for _, id := range spec.(*ast.ValueSpec).Names {
				if strings.HasPrefix(id.Name, "Err") {
					names = append(names, id.Name)
				}
			}
		}
	}
	return names
}

func TestErrorsOutsideTheTable(t *testing.T) {
	if err := toGRPC(nil); err != nil {
		t.Errorf("nil became %v", err)
	}
	wantStatus(t, toGRPC(fmt.Errorf("read index: %w", context.Canceled)), codes.Canceled, "context canceled")
	wantStatus(t, toGRPC(context.DeadlineExceeded), codes.DeadlineExceeded, "context deadline exceeded")
	wantStatus(t, toGRPC(errors.New("odd")), codes.Unknown, "odd")
	if err := toGRPC(rpctypes.ErrGRPCNoLeader); err != rpctypes.ErrGRPCNoLeader {
		t.Errorf("a status error became %v", err)
	}
	wantStatus(t, toGRPC(status.Error(codes.Aborted, "x")), codes.Aborted, "x")
}

// A deadline that ends while the engine works comes back as DeadlineExceeded.
func TestDeadline(t *testing.T) {
	h := start(t, ProfileNetsy)
	h.engine.onRange = blockedRange
	ctx, cancel := context.WithTimeout(testContext(t), 1)
	defer cancel()
	_, err := h.kv.Range(ctx, rangeOf("k"))
	if status.Code(err) != codes.DeadlineExceeded {
		t.Fatalf("got %v, want DeadlineExceeded", err)
	}
}
