package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// The network: the test and the object store are in a namespace that routes between those of the nodes, each of which hangs on
// it by a link of its own. A cut is a rule of the router that drops what goes from one address to another, without a word.
const (
	labNodes  = 3
	storeHost = "10.77.100.1"
	envInside = "KINSY_CLUSTER_INSIDE"
)

// network is where the nodes of a test are.
type network struct {
	separate bool // each node has a namespace of its own
	wrappers [labNodes]string
	cuts     []cut
}

// cut drops packets from one host to another.
type cut struct{ from, to string }

// nodeHost is the address of a node in its namespace.
func nodeHost(i int) string { return fmt.Sprintf("10.77.%d.2", i+1) }

func insideNetwork() bool { return os.Getenv(envInside) != "" }

// runInNetwork runs this binary again in namespaces of its own, which end with it. ran is false where that is not possible.
func runInNetwork(binary string) (code int, ran bool, err error) {
	if _, err := exec.LookPath("ip"); err != nil {
		return 1, false, err
	}
	flags := uintptr(syscall.CLONE_NEWNET | syscall.CLONE_NEWNS)
	attr := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		flags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	attr.Cloneflags = flags
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), envInside+"=1", "KINSY_TEST_BINARY="+binary)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = attr
	if err := cmd.Start(); err != nil {
		return 1, false, err
	}
	var exit *exec.ExitError
	switch err := cmd.Wait(); {
	case errors.As(err, &exit):
		return exit.ExitCode(), true, nil
	default:
		return 0, true, err
	}
}

// newNetwork makes the namespaces of the nodes, if it is in one of its own. Files go into dir.
func newNetwork(dir string) (*network, error) {
	n := &network{separate: insideNetwork()}
	if !n.separate {
		for i := range n.wrappers {
			n.wrappers[i] = kinsyBinary
		}
		return n, nil
	}
	if err := n.makeRouter(); err != nil {
		return nil, err
	}
	for i := range labNodes {
		if err := n.makeHost(i); err != nil {
			return nil, err
		}
		var err error
		if n.wrappers[i], err = wrap(dir, i, kinsyBinary); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// wrap writes a script into dir that runs a binary in the namespace of a node.
func wrap(dir string, i int, binary string) (string, error) {
	path := filepath.Join(dir, fmt.Sprintf("%s-%d", filepath.Base(binary), i+1))
	script := fmt.Sprintf("#!/bin/sh\nexec ip netns exec n%d %s \"$@\"\n", i+1, binary)
	return path, os.WriteFile(path, []byte(script), 0o700)
}

func (n *network) makeRouter() error {
	// Nothing of this mount is seen outside.
	if err := errors.Join(syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""), os.MkdirAll("/run/netns", 0o755),
		syscall.Mount("none", "/run/netns", "tmpfs", 0, "")); err != nil {
		return fmt.Errorf("mount folder of namespaces: %w", err)
	}
	for _, setting := range []string{"ip_forward=1", "tcp_early_demux=0", "ip_early_demux=0"} {
		name, value, _ := strings.Cut(setting, "=")
		if err := os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0); err != nil {
			return fmt.Errorf("set %s: %w", setting, err)
		}
	}
	// Cuts come before the rule for what is for this host.
	return ip("link set lo up", "addr add "+storeHost+"/32 dev lo", "rule add pref 100 lookup local", "rule del pref 0")
}

func (n *network) makeHost(i int) error {
	host := fmt.Sprintf("n%d", i+1)
	gate := fmt.Sprintf("10.77.%d.1", i+1)
	return ip("netns add "+host,
		fmt.Sprintf("link add h%d type veth peer name eth0 netns %s", i+1, host),
		fmt.Sprintf("addr add %s/24 dev h%d", gate, i+1), fmt.Sprintf("link set h%d up", i+1),
		fmt.Sprintf("-n %s addr add %s/24 dev eth0", host, nodeHost(i)), "-n "+host+" link set eth0 up", "-n "+host+" link set lo up",
		"-n "+host+" route add default via "+gate)
}

// ip runs commands of iproute2.
func ip(commands ...string) error {
	for _, c := range commands {
		if out, err := exec.Command("ip", strings.Fields(c)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", c, err, out)
		}
	}
	return nil
}

// cut drops packets from now on.
func (n *network) cut(cuts ...cut) error {
	for _, c := range cuts {
		if err := ip(fmt.Sprintf("rule add pref 10 from %s to %s blackhole", c.from, c.to)); err != nil {
			return err
		}
		n.cuts = append(n.cuts, c)
	}
	return nil
}

// heal ends all cuts.
func (n *network) heal() error {
	for len(n.cuts) > 0 {
		c := n.cuts[0]
		if err := ip(fmt.Sprintf("rule del pref 10 from %s to %s blackhole", c.from, c.to)); err != nil {
			return err
		}
		n.cuts = n.cuts[1:]
	}
	return nil
}

// between is a cut of both directions.
func between(a, b string) []cut { return []cut{{a, b}, {b, a}} }
