package s3snap

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// mutation breaks one rule of the chain.
type mutation struct {
	name, file, old, new string
	and, andNew          string // a second place, if it takes two
}

// mutations are what the simulation must find. The code with the rule broken is
// built beside the real one. That the epoch row comes into the log after the chain
// is not among them: without receipts it is a row like any other that the chain
// does not have.
var mutations = []mutation{
	{name: "a refused PUT counts without reading what is there", file: "chain.go",
		old: "err = c.whose(ctx, key, body)",
		new: "err = nil"},
	{name: "a PUT is tried again with other bytes", file: "chain.go",
		old: "_, err := c.store.Put(ctx, key, body, object.Condition{IfAbsent: true})",
		new: "_, err := c.store.Put(ctx, key, body, object.Condition{IfAbsent: true})\n\t\tif h, rows, bad := rowfile.Decode(body); bad == nil {\n\t\t\trows[0].WrittenAt++\n\t\t\tbody, _ = rowfile.Encode(h, rows)\n\t\t}"},
	{name: "a PUT that is not answered counts", file: "chain.go",
		old: "		c.heard(err)\n		if err == nil ||",
		new: "		c.heard(err)\n		if transient(err) {\n			err = nil\n		}\n		if err == nil ||"},
	{name: "a chunk is written before the one before it is known", file: "chain.go",
		old: "if ctx.Err() != nil || pause.pause(ctx) != nil {\n			return fmt.Errorf(\"chunk",
		new: "if transient(err) {\n			last := p.last\n			_, rows, _ := rowfile.Decode(body)\n			c.mu.Lock()\n			c.end = headOf(&rows[last-p.first])\n			c.mu.Unlock()\n			return fmt.Errorf(\"%w: %w\", ErrUnavailable, err)\n		}\n		if ctx.Err() != nil || pause.pause(ctx) != nil {\n			return fmt.Errorf(\"chunk",
		and: "	case !errors.Is(err, ErrFenced):\n", andNew: "	case !errors.Is(err, ErrFenced) && !transient(err):\n"},
	{name: "a PUT is written over what is there", file: "chain.go",
		old: "object.Condition{IfAbsent: true}",
		new: "object.Condition{}"},
	{name: "the floor is not read after a sleep", file: "chain.go",
		old: "if floor >= first {",
		new: "if floor < 0 {"},
	{name: "a sleep is not noticed", file: "chain.go",
		old: "fresh := hasClock && c.known && now-c.seen < c.trust",
		new: "fresh := now >= 0"},
	{name: "chunks are deleted and the floor is not raised", file: "keep.go",
		old: "raiseFloor(ctx, cfg.Store, oldest)",
		new: "raiseFloor(ctx, cfg.Store, 0)"},
	{name: "chunks above the snapshot are deleted", file: "keep.go",
		old: "first > upTo ||",
		new: "first > upTo+20 ||"},
	{name: "young chunks are deleted", file: "keep.go",
		old: "deleteChunks(ctx, cfg.Store, oldest, before)",
		new: "deleteChunks(ctx, cfg.Store, oldest, before.Add(2*cfg.minAge))"},
	{name: "no fence is written", file: "settle.go",
		old: "	return s.lead(ctx)\n",
		new: "	return nil\n"},
	{name: "a node takes an epoch that the chain has", file: "settle.go",
		old: "raiseEpoch(ctx, s.cfg.Store, least)",
		new: "max(least-1, 1), error(nil)"},
	{name: "the chain is not read to its end", file: "read.go",
		old: "	*end = f.chunk.header.Head\n	return nil\n",
		new: "	*end = f.chunk.header.Head\n	if end.ID%5 == 0 {\n		return errFound\n	}\n	return nil\n"},
	{name: "rows that disagree are not looked for", file: "meet.go",
		old: "differs = differs || !sameRow(row, &k.rows[i])",
		new: "differs = differs || row.ID != k.rows[i].ID"},
	{name: "a takeover that stopped is forgotten", file: "adopt.go",
		old: "		s.adopted = true\n		return nil\n",
		new: "		return nil\n"},
	{name: "a read is confirmed without a look", file: "confirm.go",
		old: "l.err = c.look(ctx)",
		new: "_ = ctx"},
	{name: "a read does not wait for the PUT under way", file: "confirm.go",
		old: "return c.await(ctx, inFlight)",
		new: "return true, nil"},
	{name: "a look finds nothing wrong in another's chunk", file: "confirm.go",
		old: "err = c.ownOrForeign(key, body)",
		new: "sure, err = len(body) > 0, nil"},
	{name: "a snapshot is taken beyond the chain's end", file: "keep.go",
		old: "a.log, chain.End)",
		new: "a.log, a.log.Head)"},
	{name: "a snapshot does not keep rows from being removed", file: "snapshot.go",
		old: "	head := at()\n	if c :=",
		new: "	head := at()\n	release()\n	if c :="},
	{name: "a snapshot forgets what is compacted", file: "snapshot.go",
		old: "First: 1, Head: m.Head(), Compaction: compaction,",
		new: "First: 1, Head: m.Head(),"},
	{name: "rows of a Txn are split", file: "upload.go",
		old: "(r.Sub == 0 || !r.Kind.Changes())",
		new: "r.ID > 0"},
	{name: "a restore ends one chunk early", file: "restore.go",
		old: "		for i := range c.rows {",
		new: "		if c.header.First%4 == 1 {\n			return errReached\n		}\n		for i := range c.rows {"},
	{name: "a restore to a revision ends inside of it", file: "restore.go",
		old: "if r.Kind.Changes() && r.Sub > 0 {\n		return false",
		new: "if r.Kind.Changes() && r.Sub > 0 {\n		return r.Revision == t.Revision"},
}

// TestSimulationFindsBrokenRules builds the package with each rule broken, and
// expects the simulation to complain. It takes minutes, and runs only when
// KINSY_SIM_MUTATIONS says how many seeds a mutation may need at most, from
// KINSY_SIM_SEED on.
func TestSimulationFindsBrokenRules(t *testing.T) {
	seeds := envInt("KINSY_SIM_MUTATIONS", 0)
	for _, m := range mutations {
		source, err := os.ReadFile(m.file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(string(source), m.old) != 1 || (m.and != "" && strings.Count(string(source), m.and) != 1) {
			t.Errorf("%s: %s does not have it once: %s, %s", m.name, m.file, m.old, m.and)
			continue
		}
		if seeds > 0 {
			t.Run(m.name, func(t *testing.T) { m.mustBeFound(t, string(source), seeds) })
		}
	}
}

func (m mutation) mustBeFound(t *testing.T, source string, seeds int) {
	dir := t.TempDir()
	mutated, overlay, binary := filepath.Join(dir, m.file), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "s3snap.test")
	path, err := filepath.Abs(m.file)
	if err != nil {
		t.Fatal(err)
	}
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {path: mutated}})
	if err != nil {
		t.Fatal(err)
	}
	source = strings.Replace(source, m.old, m.new, 1)
	if m.and != "" {
		source = strings.Replace(source, m.and, m.andNew, 1)
	}
	for name, body := range map[string]string{mutated: source, overlay: string(replace)} {
		if err := os.WriteFile(name, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "go", "test", "-vet=off", "-c", "-overlay", overlay, "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	run := exec.CommandContext(ctx, binary, "-test.run=^TestSimulation$", "-test.timeout=5m")
	run.Env = append(os.Environ(), "KINSY_SIM_SEED="+strconv.Itoa(envInt("KINSY_SIM_SEED", 1)), "KINSY_SIM_SEEDS="+strconv.Itoa(seeds))
	out, err := run.CombinedOutput()
	if err == nil {
		t.Fatalf("not found by %d seeds", seeds)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "complaints") || strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") {
			t.Logf("found: %.300s", strings.TrimSpace(line))
			return
		}
	}
	t.Fatalf("ends with %v for another reason:\n%.2000s", err, out)
}
