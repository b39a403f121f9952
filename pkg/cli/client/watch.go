package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v3"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/kinsy/kinsy/pkg/cli/terminal"
)

const watchDescription = `Prints each change until it is interrupted: PUT or DELETE, the key, the value, each on a line. A watch whose connection is lost goes
on at any endpoint from the revision after the last it has seen, so that no change is missed; where the history was compacted
meanwhile it says so and ends.

--exec runs a command by the shell for each change and waits for it; one that fails ends the watch. The new value, as it is, is the
command's standard input. Its environment has KINSY_EVENT_TYPE (PUT or DELETE), KINSY_EVENT_KEY and KINSY_EVENT_VALUE (with escapes as
in the output; without the value where it is long), KINSY_EVENT_REVISION, KINSY_EVENT_VERSION, KINSY_EVENT_LEASE and, with --prev-kv,
KINSY_EVENT_PREV_VALUE.`

// watchOptions are those of a watch.
type watchOptions struct {
	span
	revision int64
	prevKV   bool
	command  string
}

func newWatch(c Config) *cli.Command {
	o := &watchOptions{}
	return c.command(spec{
		name: "watch", usage: "follow the changes of keys", args: "KEY [RANGE_END]", description: watchDescription, formats: noTable,
		flags: append(o.span.flags("follow"),
			&cli.Int64Flag{Name: "rev", Aliases: []string{"revision"}, HideDefault: true, Destination: &o.revision, Usage: "begin with the changes of `REVISION`"},
			&cli.BoolFlag{Name: "prev-kv", HideDefault: true, Destination: &o.prevKV, Usage: "print what was there before, too"},
			&cli.StringFlag{Name: "exec", Destination: &o.command, Usage: "`COMMAND` to run for each change, instead of printing it"}),
		run: func(ctx context.Context, s *session) error {
			args, err := s.args(1, 2)
			if err != nil {
				return err
			}
			r := &pb.WatchCreateRequest{StartRevision: o.revision, PrevKv: o.prevKV, ProgressNotify: true}
			if r.Key, r.RangeEnd, err = o.of(args); err != nil {
				return err
			}
			if o.revision < 0 {
				return usagef("--rev must not be negative")
			}
			f := &follower{servers: s.servers, request: r, note: s.note, on: s.printEvents}
			if o.command != "" {
				f.on = func(ctx context.Context, answer *pb.WatchResponse) error {
					return s.execEach(ctx, o.command, answer.GetEvents())
				}
			}
			err = f.run(ctx)
			if ctx.Err() != nil && errors.Is(err, context.Canceled) {
				return nil // it was told to stop
			}
			return err
		},
	})
}

// watchJSON is a set of changes in JSON.
type watchJSON struct {
	Header *header     `json:"header,omitempty"`
	Events []eventJSON `json:"events"`
}

// eventJSON is a change in JSON.
type eventJSON struct {
	Type   string    `json:"type"`
	KV     *keyValue `json:"kv"`
	PrevKV *keyValue `json:"prev_kv,omitempty"`
}

func eventsOf(events []*mvccpb.Event) []eventJSON {
	all := make([]eventJSON, len(events))
	for i, e := range events {
		all[i] = eventJSON{e.GetType().String(), keyValueOf(e.GetKv()), keyValueOf(e.GetPrevKv())}
	}
	return all
}

func (s *session) printEvents(_ context.Context, answer *pb.WatchResponse) error {
	if s.format == formatJSON {
		if err := s.writeJSON(watchJSON{headerOf(answer.GetHeader()), eventsOf(answer.GetEvents())}); err != nil {
			return err
		}
		return s.out.Flush()
	}
	for _, e := range answer.GetEvents() {
		fmt.Fprintln(s.out, s.eventType(e))
		if prev := e.GetPrevKv(); prev != nil {
			s.pair(prev, kvOptions{})
		}
		s.pair(e.GetKv(), kvOptions{})
	}
	return s.out.Flush()
}

func (s *session) eventType(e *mvccpb.Event) string {
	if e.GetType() == mvccpb.DELETE {
		return s.paint(terminal.Red, "DELETE")
	}
	return s.paint(terminal.Green, "PUT")
}
