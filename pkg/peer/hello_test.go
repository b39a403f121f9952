package peer

import (
	"context"
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/peer/peerpb"
)

// raw is a client that says what a test wants it to say.
func raw(t *testing.T, n *node) peerpb.PeerClient {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+n.Address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return peerpb.NewPeerClient(cc)
}

// saying is a context that says hello.
func saying(t *testing.T, h *peerpb.Hello) context.Context {
	b, err := proto.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	return metadata.AppendToOutgoingContext(within(t), helloKey, string(b))
}

func goodHello() *peerpb.Hello {
	return &peerpb.Hello{Major: ProtocolMajor, Minor: 7, ClusterId: ClusterID(testCluster), NodeId: 2, Name: "b", To: 1}
}

// TestHello: who is refused on every call, and what it is told.
func TestHello(t *testing.T) {
	a := start(t, config(1, "a"), newHandler())
	a.SetPeers([]Peer{{ID: 3, Name: "c"}})
	client := raw(t, a)
	for name, c := range map[string]struct {
		change func(h *peerpb.Hello)
		want   string
	}{
		"version":    {func(h *peerpb.Hello) { h.Major = 2 }, `node "b" speaks version 2.7 of the peer protocol, node "a" version 1.0`},
		"cluster":    {func(h *peerpb.Hello) { h.ClusterId = 1 }, `node "b" is of cluster 0000000000000001, node "a" of cluster 9f86d081884c7d65`},
		"other disk": {func(h *peerpb.Hello) { h.To = 9 }, `this is node "a", disk 0000000000000001, not disk 0000000000000009`},
		"copy":       {func(h *peerpb.Hello) { h.NodeId = 1 }, `node "b" has the disk of node "a", 0000000000000001: one is a copy of the other`},
		"same name":  {func(h *peerpb.Hello) { h.Name = "a" }, `two nodes are named "a": disk 0000000000000001 and disk 0000000000000002`},
		"known name": {func(h *peerpb.Hello) { h.NodeId = 3 }, `disk 0000000000000003 is node "c"'s, not node "b"'s`},
		"name":       {func(h *peerpb.Hello) { h.Name = "b\n" }, `name "b\n" is invalid`},
		"client":     {func(h *peerpb.Hello) { h.NodeId = 0 }, `"b" is no node, it may ask for the state and for another primary only`},
	} {
		h := goodHello()
		c.change(h)
		control, err := client.Control(saying(t, h))
		if err != nil {
			t.Fatal(err)
		}
		err = control.RecvMsg(&peerpb.ControlEnd{})
		if got := status.Convert(err).Message(); !strings.Contains(got, c.want) {
			t.Errorf("%s: %q", name, got)
		}
		if name == "client" {
			continue
		}
		if _, err := client.State(saying(t, h), &peerpb.StateRequest{}); !strings.Contains(status.Convert(err).Message(), c.want) {
			t.Errorf("%s, unary: %v", name, err)
		}
	}
	if _, err := client.State(within(t), &peerpb.StateRequest{}); !strings.Contains(status.Convert(err).Message(), "does not say hello") {
		t.Error(err)
	}
	ctx := metadata.AppendToOutgoingContext(within(t), helloKey, "\xff")
	if _, err := client.State(ctx, &peerpb.StateRequest{}); !strings.Contains(status.Convert(err).Message(), "cannot be decoded") {
		t.Error(err)
	}
	if _, err := client.State(saying(t, goodHello()), &peerpb.StateRequest{}); err != nil {
		t.Error(err)
	}
}

// TestRefused: the other side's refusal is an error of its own, and logged on both.
func TestRefused(t *testing.T) {
	a := start(t, config(1, "a"), newHandler())
	cfg := config(2, "b")
	cfg.Cluster++
	b := start(t, cfg, newHandler())
	b.SetPeers([]Peer{a.peer()})
	_, err := b.Forward(within(t), 1, grant(1))
	wantErrors(t, "a call", err, ErrNotSent, ErrRefused)
	if err == nil || !strings.Contains(err.Error(), `node "b" is of cluster`) {
		t.Errorf("%v", err)
	}
	if _, err := b.Follow(within(t), 1, testOpen); !errors.Is(err, ErrRefused) {
		t.Errorf("%v", err)
	}
	if text := b.waitLog(t, "peer not reached"); !strings.Contains(text, `node "b" is of cluster`) {
		t.Error(text)
	}
	if text := a.waitLog(t, "peer refused"); !strings.Contains(text, `node "b" is of cluster`) {
		t.Error(text)
	}
}

// TestWrongAnswer: the node that answers is checked, too.
func TestWrongAnswer(t *testing.T) {
	a, b := start(t, config(1, "a"), newHandler()), start(t, config(2, "b"), newHandler())
	a.SetPeers([]Peer{{2, "c", b.Address()}})
	_, err := a.Forward(within(t), 2, grant(1))
	wantErrors(t, "another name", err, ErrNotSent, ErrRefused)
	a.SetPeers([]Peer{{3, "b", b.Address()}})
	_, err = a.Forward(within(t), 3, grant(1))
	wantErrors(t, "another disk", err, ErrNotSent, ErrRefused)
	if _, err := a.readHello(metadata.MD{}); err == nil {
		t.Error("an answer without a Hello is taken")
	}
}

// TestUnknownNode: a node of the cluster that is not known yet may connect.
func TestUnknownNode(t *testing.T) {
	a, b := start(t, config(1, "a"), newHandler()), start(t, config(2, "b"), newHandler())
	b.SetPeers([]Peer{a.peer()})
	b.Send(1, elect.Ask{Seq: 1})
	if got := next(t, "a message", a.h.messages); got.from != 2 {
		t.Errorf("%v", got)
	}
}

// TestMalformed: what cannot be decoded, or breaks the order, ends its stream with a
// reason; what a newer version sends does not.
func TestMalformed(t *testing.T) {
	a := start(t, config(1, "a"), newHandler())
	client := raw(t, a)
	control, err := client.Control(saying(t, goodHello()))
	if err != nil {
		t.Fatal(err)
	}
	audit := func(epoch int64) *peerpb.ElectMessage {
		return &peerpb.ElectMessage{Message: &peerpb.ElectMessage_Audit{Audit: &peerpb.Audit{Epoch: epoch}}}
	}
	_ = control.Send(&peerpb.ControlBatch{Messages: []*peerpb.ElectMessage{{}, audit(3), audit(-1)}})
	wantEnd(t, "control", control.RecvMsg(&peerpb.ControlEnd{}), "epoch is -1")
	if got := next(t, "the message before it", a.h.messages); got != (received{2, elect.Audit{Epoch: 3}}) {
		t.Errorf("%v", got)
	}

	follow, err := client.Follow(saying(t, goodHello()))
	if err != nil {
		t.Fatal(err)
	}
	_ = follow.Send(&peerpb.FollowRequest{Request: &peerpb.FollowRequest_Receipt{Receipt: &peerpb.Receipt{}}})
	_, err = follow.Recv()
	wantEnd(t, "follow", err, "does not begin with an open")

	calls, err := client.Call(saying(t, goodHello()))
	if err != nil {
		t.Fatal(err)
	}
	committed := func(id uint64) *peerpb.Call {
		return &peerpb.Call{Id: id, Call: &peerpb.Call_Committed{Committed: &peerpb.CommittedRequest{Epoch: 1}}}
	}
	_ = calls.Send(&peerpb.CallBatch{Calls: []*peerpb.Call{{Id: 1}}})
	answers, err := calls.Recv()
	if err != nil || len(answers.Answers) != 1 || answers.Answers[0].GetError().GetMessage() != "a call of a kind that this version does not know" {
		t.Fatalf("%v, %v", answers, err)
	}
	_ = calls.Send(&peerpb.CallBatch{Calls: []*peerpb.Call{committed(5), committed(5)}})
	for err == nil {
		_, err = calls.Recv()
	}
	wantEnd(t, "calls", err, "call 5 after call 5")
}

func wantEnd(t *testing.T, what string, err error, text string) {
	t.Helper()
	if !strings.Contains(status.Convert(err).Message(), text) {
		t.Errorf("%s: %v", what, err)
	}
}

// TestState: by a node, and by a client that has no identity.
func TestState(t *testing.T) {
	a := start(t, config(1, "a"), newHandler())
	a.h.state = &peerpb.NodeState{Name: "a", Committed: 5}
	cfg := config(0, "admin")
	cfg.ListenAddress = ""
	client := start(t, cfg, nil)
	for _, n := range []*node{start(t, config(2, "b"), newHandler()), client} {
		if s, err := n.State(within(t), a.Address()); err != nil || s.GetCommitted() != 5 {
			t.Errorf("%v, %v", s, err)
		}
	}
	client.SetPeers([]Peer{a.peer()})
	_, err := client.Forward(within(t), 1, grant(1))
	if !strings.Contains(err.Error(), "may ask for the state and for another primary only") {
		t.Error(err)
	}
	a.h.state = nil
	if _, err := client.State(within(t), a.Address()); err == nil {
		t.Error("no state and no error")
	}
	a.stop()
	if _, err := client.State(within(t), a.Address()); err == nil {
		t.Error("a node that is gone and no error")
	}
}

// FuzzHello: whatever is said is refused or of this cluster and version.
func FuzzHello(f *testing.F) {
	t := &Transport{cfg: config(1, "a")}
	f.Add(t.hello(2))
	f.Fuzz(func(_ *testing.T, b string) {
		h, err := t.readHello(metadata.Pairs(helloKey, b))
		if err == nil && (h.Major != ProtocolMajor || h.ClusterId != t.cfg.Cluster || h.Name == "") {
			panic(h.String())
		}
	})
}
