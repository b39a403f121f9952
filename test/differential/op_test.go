package differential

import (
	"context"
	"fmt"
	"math"
	"strings"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// kind says how an operation is carried out; see runner.do.
type kind string

const (
	kindCall    kind = "call"    // one unary request, or one keepalive
	kindStream  kind = "stream"  // RangeStream
	kindBrief   kind = "brief"   // LeaseGrant, LeaseTimeToLive and LeaseRevoke of the lease, its id hidden
	kindCompact kind = "compact" // settle, Compact, wait for the compaction to end
	kindWatch   kind = "watch"   // create a watch
	kindCancel  kind = "cancel"  // settle and cancel a watch
	kindSettle  kind = "settle"  // compare all events so far
	kindState   kind = "state"   // compare everything that can be read
	kindReset   kind = "reset"   // settle, empty the key space, open new watch streams
	kindStop    kind = "stop"    // end both servers in good order and start them again
	kindKill    kind = "kill"    // kill both servers and start them again
)

// op is one operation of a sequence: enough to carry it out again.
type op struct {
	kind   kind
	req    proto.Message // nil for kinds without a request
	stream int           // index of the watch stream
	head   int64         // head revision when the operation was made
}

const maxText = 2000

func (o op) String() string {
	s := string(o.kind)
	if o.kind == kindWatch || o.kind == kindCancel {
		s += fmt.Sprintf(" on stream %d", o.stream)
	}
	if o.req != nil {
		s += fmt.Sprintf(" %s {%s}", o.req.ProtoReflect().Descriptor().Name(), text(o.req))
	}
	return s
}

// text prints a message in one line, with long runs of one letter cut and the whole bounded.
func text(m proto.Message) string {
	s := squeeze(prototext.MarshalOptions{}.Format(m))
	if len(s) > maxText {
		s = s[:maxText] + "..."
	}
	return s
}

// squeeze writes a run of more than 16 equal bytes, or escape sequences like \x81, as the first and its count.
func squeeze(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		unit := 1
		if strings.HasPrefix(s[i:], `\x`) && i+4 <= len(s) {
			unit = 4
		}
		n := 1
		for strings.HasPrefix(s[i+n*unit:], s[i:i+unit]) {
			n++
		}
		if n > 16 {
			fmt.Fprintf(&b, "%s<x%d>", s[i:i+unit], n)
		} else {
			b.WriteString(s[i : i+n*unit])
		}
		i += n * unit
	}
	return b.String()
}

// revisionFields are the request fields that hold a revision.
var revisionFields = map[protoreflect.Name]bool{
	"revision": true, "start_revision": true, "create_revision": true, "mod_revision": true,
	"min_mod_revision": true, "max_mod_revision": true, "min_create_revision": true, "max_create_revision": true,
}

// near is how far from the head a revision may be to count as chosen relative to it.
const near = 100_000

// rebased returns the request as it would have been made at another head revision.
func (o op) rebased(head int64) proto.Message {
	if o.req == nil || head == o.head {
		return o.req
	}
	req := proto.Clone(o.req)
	shift(req.ProtoReflect(), o.head, head-o.head)
	return req
}

func shift(m protoreflect.Message, head, delta int64) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsList() && f.Message() != nil:
			for i := range v.List().Len() {
				shift(v.List().Get(i).Message(), head, delta)
			}
		case f.IsList():
		case f.Message() != nil:
			shift(v.Message(), head, delta)
		case revisionFields[f.Name()]:
			if rev := v.Int(); rev > 0 && rev < math.MaxInt64-near && rev-head < near {
				m.Set(f, protoreflect.ValueOfInt64(max(rev+delta, 1)))
			}
		}
		return true
	})
}

// exchange sends the request of an operation that has exactly one answer.
func (p *peer) exchange(k kind, req proto.Message) outcome {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	req = proto.Clone(req)
	var out outcome
	if k == kindStream {
		out.resp, out.err = p.rangeStream(ctx, req.(rangeRequest))
	} else {
		out.resp, out.err = p.unary(ctx, req)
	}
	return out
}
