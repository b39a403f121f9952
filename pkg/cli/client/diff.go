package client

import (
	"bytes"
	"context"
	"fmt"

	"github.com/urfave/cli/v3"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/kinsy/kinsy/pkg/cli/terminal"
)

const diffDescription = `Prints, in order of key, the keys that are there at REV2 and not at REV1 (+), that were written in between (~), and that are gone
(-). A key that was written with the value that it had counts as changed. --values adds the values: a line "< VALUE" for the one at
REV1, "> VALUE" for that at REV2. Both revisions must be kept still. The exit status does not say whether there are differences.`

// diffOptions are those of a diff.
type diffOptions struct {
	prefix          string
	escaped, values bool
}

func newDiff(c Config) *cli.Command {
	o := &diffOptions{}
	return c.command(spec{
		name: "diff", usage: "show what differs between two revisions", args: "REV1 REV2", description: diffDescription,
		flags: []cli.Flag{
			&cli.StringFlag{Name: "prefix", Destination: &o.prefix, Usage: "only the keys that begin with `PREFIX`"},
			&cli.BoolFlag{Name: "values", HideDefault: true, Destination: &o.values, Usage: "and their values"},
			newEscapedFlag(&o.escaped),
		},
		run: func(ctx context.Context, s *session) error {
			args, err := s.args(2, 2)
			if err != nil {
				return err
			}
			d := &differ{session: s, options: o}
			if d.revisions[0], err = parseRevision("REV1", args[0]); err != nil {
				return err
			}
			if d.revisions[1], err = parseRevision("REV2", args[1]); err != nil {
				return err
			}
			prefix, err := literal(o.prefix, o.escaped)
			if err != nil {
				return err
			}
			d.key, d.end = prefixRange(prefix)
			return d.run(ctx)
		},
	})
}

// differ walks through the keys of two revisions side by side.
type differ struct {
	*session
	options   *diffOptions
	revisions [2]int64
	key, end  []byte
	changes   []changeJSON // for formats other than text
	seen      int64
}

// changeJSON is a difference in JSON.
type changeJSON struct {
	Change string    `json:"change"` // added, changed or removed
	Key    []byte    `json:"key"`
	Before *keyValue `json:"before,omitempty"`
	After  *keyValue `json:"after,omitempty"`
}

// marks stand for the changes in text.
var marks = map[string]struct {
	sign   string
	colour terminal.Colour
}{"added": {"+", terminal.Green}, "changed": {"~", terminal.Yellow}, "removed": {"-", terminal.Red}}

func (d *differ) run(ctx context.Context) error {
	before, err := d.cursor(ctx, d.revisions[0])
	if err != nil {
		return err
	}
	after, err := d.cursor(ctx, d.revisions[1])
	if err != nil {
		return err
	}
	for before.kv != nil || after.kv != nil {
		old, now := pairUp(before.kv, after.kv)
		if err := d.compare(old, now); err != nil {
			return err
		}
		if old != nil {
			err = before.advance(ctx)
		}
		if now != nil && err == nil {
			err = after.advance(ctx)
		}
		if err != nil {
			return err
		}
		if d.seen++; d.seen%pageKeys == 0 {
			d.line.Show("comparing " + terminal.Bar(d.seen, max(before.total, after.total)) + " " + terminal.Digits(d.seen) + " keys")
		}
	}
	d.line.Clear()
	return d.finish()
}

// pairUp returns what is the smaller key, from one side or from both.
func pairUp(old, now *mvccpb.KeyValue) (*mvccpb.KeyValue, *mvccpb.KeyValue) {
	if old == nil || now == nil {
		return old, now
	}
	switch order := bytes.Compare(old.Key, now.Key); {
	case order < 0:
		return old, nil
	case order > 0:
		return nil, now
	}
	return old, now
}

// compare writes what differs at one key.
func (d *differ) compare(old, now *mvccpb.KeyValue) error {
	c := changeJSON{Change: "changed", Before: d.side(old), After: d.side(now)}
	switch {
	case old == nil:
		c.Change, c.Key = "added", now.Key
	case now == nil:
		c.Change, c.Key = "removed", old.Key
	case old.ModRevision == now.ModRevision:
		return nil
	default:
		c.Key = now.Key
	}
	if d.format != formatText {
		d.changes = append(d.changes, c)
		return nil
	}
	mark := marks[c.Change]
	d.println(d.paint(mark.colour, mark.sign+" "+Escape(c.Key)))
	if d.options.values && old != nil {
		d.println("< " + Escape(old.Value))
	}
	if d.options.values && now != nil {
		d.println("> " + Escape(now.Value))
	}
	return nil
}

// side is a key at one of the revisions in JSON.
func (d *differ) side(kv *mvccpb.KeyValue) *keyValue {
	if kv == nil || d.options.values {
		return keyValueOf(kv)
	}
	return keyOf(kv)
}

func (d *differ) finish() error {
	switch d.format {
	case formatJSON:
		return d.writeJSON(map[string]any{"from": d.revisions[0], "to": d.revisions[1], "changes": append([]changeJSON{}, d.changes...)})
	case formatTable:
		rows := [][]string{{"CHANGE", "KEY", "BEFORE", "AFTER"}}
		for _, c := range d.changes {
			rows = append(rows, []string{c.Change, Escape(c.Key), d.cell(c.Before), d.cell(c.After)})
		}
		return d.table(rows)
	}
	return nil
}

// cell is a key at one of the revisions: its own revision, and the value if that is asked for.
func (d *differ) cell(kv *keyValue) string {
	if kv == nil {
		return "-"
	}
	text := fmt.Sprintf("rev %d", kv.ModRevision)
	if kv.Value != nil {
		text += ": " + Escape(*kv.Value)
	}
	return text
}

// cursor goes through the keys of one revision.
type cursor struct {
	s     *servers
	r     *pb.RangeRequest
	page  []*mvccpb.KeyValue
	more  bool
	total int64
	kv    *mvccpb.KeyValue // where it is; nil: at the end
}

func (d *differ) cursor(ctx context.Context, revision int64) (*cursor, error) {
	c := &cursor{s: d.servers, more: true}
	c.r = &pb.RangeRequest{Key: d.key, RangeEnd: d.end, Revision: revision, KeysOnly: !d.options.values, Limit: pageKeys}
	return c, c.advance(ctx)
}

// advance goes to the next key.
func (c *cursor) advance(ctx context.Context) error {
	if len(c.page) == 0 && c.more {
		answer, err := c.s.get(ctx, c.r)
		if err != nil {
			return fmt.Errorf("revision %d: %w", c.r.Revision, err)
		}
		c.page, c.more = answer.GetKvs(), answer.GetMore() && len(answer.GetKvs()) > 0
		c.total = max(c.total, answer.GetCount())
		if c.more {
			c.r.Key = append(bytes.Clone(c.page[len(c.page)-1].Key), 0)
		}
	}
	c.kv = nil
	if len(c.page) > 0 {
		c.kv, c.page = c.page[0], c.page[1:]
	}
	return nil
}
