package process

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// script makes a program of a shell, in the place of kinsy.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestNodesAreApart starts two nodes that end at once, each with a folder, addresses, flags and a log of its own.
func TestNodesAreApart(t *testing.T) {
	binary := script(t, `echo "$@"; exit 3`)
	dir := t.TempDir()
	var nodes []*Node
	for _, name := range []string{"a", "b"} {
		n := NewNode(t, Config{Binary: binary, Name: name, Flags: []string{"--flag", name}, Log: filepath.Join(dir, name+".log")})
		if err := n.Start(); !errors.Is(err, ErrEnded) || !strings.HasPrefix(err.Error(), name+": ") {
			t.Errorf("start of %s ended with %v", name, err)
		}
		if code := n.Proc.ExitCode(); code != 3 {
			t.Errorf("exit code %d", code)
		}
		nodes = append(nodes, n)
	}
	a, b := nodes[0], nodes[1]
	if a.Dir == b.Dir || a.Addr == b.Addr || a.Metrics == b.Metrics || a.Addr == a.Metrics {
		t.Errorf("two nodes share something: %+v and %+v", a, b)
	}
	for _, n := range nodes {
		_ = n.Restart() // it ends again
		log, err := os.ReadFile(filepath.Join(dir, n.Name+".log"))
		if err != nil || strings.Count(string(log), "--flag "+n.Name) != 2 || !strings.Contains(n.Proc.Output(), n.Addr) {
			t.Errorf("%s: %v, log %q, output %q", n.Name, err, log, n.Proc.Output())
		}
	}
}

// TestSignalsReachTheProcess freezes, thaws and ends a process.
func TestSignalsReachTheProcess(t *testing.T) {
	p, err := Launch(script(t, `trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done`), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	ctx := p.While(t.Context())
	for !strings.Contains(p.Output(), "ready") && ctx.Err() == nil {
		_ = p.Pause(ctx, time.Millisecond)
	}
	if err := p.Freeze(); err != nil {
		t.Fatal(err)
	}
	if err := p.Thaw(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Terminate(10 * time.Second); err != nil || p.Running() || p.Tail() != "ready\nbye" {
		t.Errorf("ended with %v, %q", err, p.Tail())
	}
	<-ctx.Done()
	if err := context.Cause(ctx); !errors.Is(err, ErrEnded) {
		t.Errorf("the context ended with %v", err)
	}
	if err := p.Pause(t.Context(), time.Minute); !errors.Is(err, ErrEnded) {
		t.Errorf("a pause ended with %v", err)
	}
}

// TestSettingsAreTakenAway looks at the environment of a process.
func TestSettingsAreTakenAway(t *testing.T) {
	for _, name := range []string{"KINSY_QUORUM", "AWS_PROFILE", "KINE_X"} {
		t.Setenv(name, "unwanted")
	}
	p, err := Launch(script(t, "env"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Exit(10 * time.Second); err != nil || strings.Contains(p.Output(), "unwanted") {
		t.Errorf("%v: %s", err, p.Output())
	}
}
