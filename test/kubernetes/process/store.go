package process

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Kind says which server a Store runs, and with which API.
type Kind string

// The stores that the tests run on.
const (
	Netsy     Kind = "netsy"     // kinsy, default profile
	Etcd      Kind = "etcd"      // kinsy, etcd profile
	Reference Kind = "reference" // the etcd server
)

// startAttempts is how often a store is started on other ports when it ends at
// once: a port that was free a moment ago may have been taken.
const startAttempts = 3

// StoreConfig describes a store.
type StoreConfig struct {
	Kind   Kind
	Binary string
	// Dir is the folder for the data and the log of the server.
	Dir string
	// ProgressInterval is the interval of the progress responses that a watch
	// gets without asking. 0 leaves the server's default.
	ProgressInterval time.Duration
	// Args are added to the command line.
	Args []string
}

// Store is a server of the etcd API in a process of its own. Its methods must
// not be called concurrently.
type Store struct {
	*Process
	config StoreConfig
	ports  ports
}

type ports struct{ client, metrics, peer int }

// StartStore starts a store on free ports and returns when it serves.
func StartStore(ctx context.Context, config StoreConfig) (*Store, error) {
	var err error
	for range startAttempts {
		s := &Store{config: config}
		if s.ports, err = freePorts(); err != nil {
			return nil, err
		}
		if err = s.Start(ctx); err == nil {
			return s, nil
		}
	}
	return nil, err
}

// Start starts the store again after it has ended, on the same ports and data,
// and returns when it serves.
func (s *Store) Start(ctx context.Context) error {
	p, err := Run(Command{
		Path: s.config.Binary,
		Args: append(s.arguments(), s.config.Args...),
		Log:  filepath.Join(s.config.Dir, "server.log"),
	})
	if err != nil {
		return err
	}
	if err := p.WaitReady(ctx, s.ready); err != nil {
		p.Kill()
		return err
	}
	s.Process = p
	return nil
}

// SetArgs replaces the arguments that are added to the command line, from the
// next Start on.
func (s *Store) SetArgs(args ...string) { s.config.Args = args }

// RemoveData deletes the data folder of a store that has ended.
func (s *Store) RemoveData() error {
	if err := os.RemoveAll(s.data()); err != nil {
		return fmt.Errorf("delete data folder: %w", err)
	}
	return nil
}

// Endpoint is the client address, host:port.
func (s *Store) Endpoint() string { return address(s.ports.client) }

// MetricsURL is the address of the HTTP endpoints of the server.
func (s *Store) MetricsURL() string { return "http://" + address(s.ports.metrics) }

func (s *Store) ready(ctx context.Context) error {
	return GetOK(ctx, http.DefaultClient, s.MetricsURL()+"/readyz")
}

func (s *Store) data() string { return filepath.Join(s.config.Dir, "data") }

func (s *Store) arguments() []string {
	var args []string
	if s.config.Kind == Reference {
		args = etcdArguments(s.data(), s.ports)
	} else {
		args = kinsyArguments(s.data(), s.config.Kind, s.ports)
	}
	if d := s.config.ProgressInterval; d > 0 {
		args = append(args, "--watch-progress-notify-interval", d.String())
	}
	return args
}

func kinsyArguments(data string, kind Kind, p ports) []string {
	return []string{
		"server",
		"--data-dir", data,
		"--api", string(kind),
		"--listen-address", address(p.client),
		"--metrics-bind-address", address(p.metrics),
		"--compact-interval", "0",
	}
}

func etcdArguments(data string, p ports) []string {
	client, peer := "http://"+address(p.client), "http://"+address(p.peer)
	return []string{
		"--data-dir", data,
		"--listen-client-urls", client,
		"--advertise-client-urls", client,
		"--listen-peer-urls", peer,
		"--initial-advertise-peer-urls", peer,
		"--initial-cluster", "default=" + peer,
		"--listen-metrics-urls", "http://" + address(p.metrics),
		"--unsafe-no-fsync",
		"--log-level", "error",
	}
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// FreePort returns a port on 127.0.0.1 that was free a moment ago.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func freePorts() (p ports, err error) {
	for _, port := range []*int{&p.client, &p.metrics, &p.peer} {
		if *port, err = FreePort(); err != nil {
			return p, err
		}
	}
	return p, nil
}

// GetOK reports whether a GET of url is answered with 200.
func GetOK(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("build request: %w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("get %s: %s", url, resp.Status)
	}
	return nil
}
