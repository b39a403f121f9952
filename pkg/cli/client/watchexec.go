package client

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// EventPrefix is what the environment variables of kinsy watch --exec begin with.
const EventPrefix = "KINSY_EVENT_"

const (
	// execValue is the longest value in a command's environment, in bytes; systems bound the length of a variable.
	execValue = 64 << 10
	// execGrace is how long a command may take to end after it was told to.
	execGrace = 5 * time.Second
)

// execEach runs a command for each event, one after the other.
func (s *session) execEach(ctx context.Context, command string, events []*mvccpb.Event) error {
	for _, e := range events {
		if err := s.execOne(ctx, command, e); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) execOne(ctx context.Context, command string, e *mvccpb.Event) error {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = execGrace
	cmd.Env = append(os.Environ(), eventVariables(e)...)
	cmd.Stdin = bytes.NewReader(e.GetKv().GetValue())
	cmd.Stdout, cmd.Stderr = s.cmd.Root().Writer, s.cmd.Root().ErrWriter
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("command for revision %d: %w", e.GetKv().GetModRevision(), err)
	}
	return nil
}

// eventVariables are the environment that says what has happened.
func eventVariables(e *mvccpb.Event) []string {
	kv := e.GetKv()
	all := []string{
		EventPrefix + "TYPE=" + e.GetType().String(),
		EventPrefix + "KEY=" + Escape(kv.GetKey()),
		EventPrefix + "REVISION=" + strconv.FormatInt(kv.GetModRevision(), 10),
		EventPrefix + "VERSION=" + strconv.FormatInt(kv.GetVersion(), 10),
	}
	if kv.GetLease() != 0 {
		all = append(all, EventPrefix+"LEASE="+leaseText(kv.GetLease()))
	}
	if text := Escape(kv.GetValue()); len(text) <= execValue {
		all = append(all, EventPrefix+"VALUE="+text)
	}
	if prev := e.GetPrevKv(); prev != nil {
		if text := Escape(prev.GetValue()); len(text) <= execValue {
			all = append(all, EventPrefix+"PREV_VALUE="+text)
		}
	}
	return all
}
