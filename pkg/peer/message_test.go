package peer

import (
	"go/ast"
	"go/parser"
	"go/token"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/peer/peerpb"
)

// messages has one of each type.
var messages = []elect.Message{
	elect.Heartbeat{}, elect.HeartbeatAck{}, elect.Ask{}, elect.Answer{}, elect.Audit{}, elect.AuditAnswer{},
	elect.Appoint{}, elect.AppointAnswer{},
}

// TestAllMessagesAreKnown: the types above are those of pkg/elect.
func TestAllMessagesAreKnown(t *testing.T) {
	var known []string
	for _, m := range messages {
		known = append(known, reflect.TypeOf(m).Name())
	}
	slices.Sort(known)
	if want := declaredMessages(t); !slices.Equal(known, want) {
		t.Errorf("pkg/elect has %v, this test %v", want, known)
	}
}

// declaredMessages are the types of pkg/elect that have the method of a Message.
func declaredMessages(t *testing.T) []string {
	files, err := filepath.Glob("../elect/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	var found []string
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv != nil && f.Name.Name == "message" {
				found = append(found, f.Recv.List[0].Type.(*ast.Ident).Name)
			}
		}
	}
	slices.Sort(found)
	return found
}

// TestMessagesRoundTrip sets every field of every type, so that one that is added and
// not encoded is noticed.
func TestMessagesRoundTrip(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, m := range messages {
		for range 100 {
			v := reflect.New(reflect.TypeOf(m)).Elem()
			fill(t, random, v)
			want := v.Interface().(elect.Message)
			b, err := proto.Marshal(encodeMessage(want))
			if err != nil {
				t.Fatal(err)
			}
			p := &peerpb.ElectMessage{}
			if err := proto.Unmarshal(b, p); err != nil {
				t.Fatal(err)
			}
			if got, err := decodeMessage(p); err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("%#v becomes %#v, %v", want, got, err)
			}
		}
	}
}

// fill sets every field to something that is not its zero value.
func fill(t *testing.T, random *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, random, v.Field(i))
		}
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		if v.Type() == reflect.TypeFor[elect.Rule]() {
			v.SetInt([]int64{-1, 1, 2}[random.IntN(3)])
			return
		}
		v.SetInt(1 + random.Int64N(1<<62))
	case reflect.Uint64:
		v.SetUint(1 + random.Uint64N(1<<63))
	case reflect.Slice:
		if v.Type() != reflect.TypeFor[[]elect.NodeID]() {
			t.Fatalf("a slice of %v", v.Type())
		}
		var members []elect.NodeID
		for range 1 + random.IntN(5) {
			members = append(members, elect.NodeID(1+random.Uint64N(1<<63)))
		}
		slices.Sort(members)
		v.Set(reflect.ValueOf(members))
	default:
		t.Fatalf("a field of type %v", v.Type())
	}
}

// TestMessagesOutOfRange: what a Core cannot cope with does not reach it.
func TestMessagesOutOfRange(t *testing.T) {
	cluster := func(c *peerpb.Cluster) *peerpb.ElectMessage {
		return &peerpb.ElectMessage{Message: &peerpb.ElectMessage_Appoint{Appoint: &peerpb.Appoint{Cluster: c}}}
	}
	for name, p := range map[string]*peerpb.ElectMessage{
		"epoch":         {Message: &peerpb.ElectMessage_Audit{Audit: &peerpb.Audit{Epoch: -1}}},
		"position":      {Message: &peerpb.ElectMessage_AuditAnswer{AuditAnswer: &peerpb.AuditAnswer{Last: &peerpb.Position{Id: -1}}}},
		"rule":          cluster(&peerpb.Cluster{Rule: -2}),
		"rule before":   cluster(&peerpb.Cluster{RuleBefore: 1 << 40}),
		"member 0":      cluster(&peerpb.Cluster{Members: []uint64{0}}),
		"member twice":  cluster(&peerpb.Cluster{Members: []uint64{1, 1}}),
		"members":       cluster(&peerpb.Cluster{Members: make([]uint64, maxMembers+1)}),
		"cluster epoch": cluster(&peerpb.Cluster{Epoch: -1}),
	} {
		if m, err := decodeMessage(p); err == nil {
			t.Errorf("%s: %v", name, m)
		}
	}
	if m, err := decodeMessage(&peerpb.ElectMessage{}); m != nil || err != nil {
		t.Errorf("a type of a newer version: %v, %v", m, err)
	}
}

// FuzzMessage: whatever decodes encodes to the same again.
func FuzzMessage(f *testing.F) {
	for _, m := range messages {
		b, _ := proto.Marshal(encodeMessage(m))
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p := &peerpb.ElectMessage{}
		if proto.Unmarshal(b, p) != nil {
			return
		}
		m, err := decodeMessage(p)
		if err != nil || m == nil {
			return
		}
		again, err := decodeMessage(encodeMessage(m))
		if err != nil || !reflect.DeepEqual(m, again) {
			t.Errorf("%#v becomes %#v, %v", m, again, err)
		}
	})
}
