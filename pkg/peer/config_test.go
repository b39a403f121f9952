package peer

import (
	"errors"
	"strings"
	"testing"

	"github.com/kinsy/kinsy/pkg/elect"
)

func TestValidate(t *testing.T) {
	good := func() Config {
		c := config(1, "a")
		c.Handler = newHandler()
		return c
	}
	secure := func(c *Config) { c.Insecure, c.CertFile, c.KeyFile, c.CAFile = false, "c", "k", "a" }
	for name, c := range map[string]struct {
		change func(c *Config)
		want   string // "" if it is valid
	}{
		"good":             {func(*Config) {}, ""},
		"no name":          {func(c *Config) { c.Name = "" }, "--node-id"},
		"name":             {func(c *Config) { c.Name = "a b" }, "--node-id"},
		"long name":        {func(c *Config) { c.Name = strings.Repeat("a", 64) }, "--node-id"},
		"no cluster":       {func(c *Config) { c.Cluster = 0 }, "--cluster-id"},
		"frame":            {func(c *Config) { c.MaxFrameBytes = -1 }, "largest frame"},
		"no identity":      {func(c *Config) { c.Self = 0 }, "identity"},
		"no handler":       {func(c *Config) { c.Handler = nil }, "handler"},
		"no certificates":  {func(c *Config) { c.Insecure = false }, "--peer-cert-file"},
		"some of them":     {func(c *Config) { c.Insecure, c.CertFile = false, "c" }, "--peer-cert-file"},
		"both":             {func(c *Config) { secure(c); c.Insecure = true }, "exclude"},
		"listen":           {func(c *Config) { c.ListenAddress = "localhost" }, "--peer-listen-address"},
		"exposed":          {func(c *Config) { c.ListenAddress = "0.0.0.0:0" }, "--peer-listen-address 0.0.0.0:0 is not a loopback address"},
		"all interfaces":   {func(c *Config) { c.ListenAddress = ":1" }, "is not a loopback address"},
		"advertised":       {func(c *Config) { c.AdvertiseAddress = "10.0.0.1:1" }, "--peer-advertise-address 10.0.0.1:1 is not a loopback address"},
		"secure, exposed":  {func(c *Config) { secure(c); c.ListenAddress = ":1"; c.AdvertiseAddress = "node-1:1" }, ""},
		"advertises any":   {func(c *Config) { secure(c); c.AdvertiseAddress = ":1" }, "no address that others can reach"},
		"advertises any 6": {func(c *Config) { secure(c); c.AdvertiseAddress = "[::]:1" }, "no address that others can reach"},
		"loopback 6":       {func(c *Config) { c.ListenAddress = "[::1]:1" }, ""},
		"localhost":        {func(c *Config) { c.ListenAddress = "localhost:1" }, ""},
	} {
		cfg := good()
		c.change(&cfg)
		err := cfg.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New(Config{}); err == nil {
		t.Error("New takes anything")
	}
}

// TestInsecurePeers: without TLS no address beyond loopback is used.
func TestInsecurePeers(t *testing.T) {
	a := start(t, config(1, "a"), newHandler())
	a.SetPeers([]Peer{{2, "b", "192.0.2.1:1"}, {3, "c", ""}})
	_, err := a.Forward(within(t), 2, grant(1))
	wantErrors(t, "beyond loopback", err, ErrNotSent, ErrRefused)
	_, err = a.Forward(within(t), 3, grant(1))
	wantErrors(t, "no address", err, ErrNotSent, ErrUnknownPeer)
	if _, err := a.State(within(t), "192.0.2.1:1"); !errors.Is(err, ErrRefused) {
		t.Error(err)
	}
}

func TestClusterID(t *testing.T) {
	for name, want := range map[string]uint64{
		"test":             0x9f86d081884c7d65,
		"0123456789abcdef": 0x0123456789abcdef,
		"0123456789ABCDEF": 0x2125b2c332b1113a,
		"0000000000000000": 0xfcdb4b423f4e5283,
	} {
		if got := ClusterID(name); got != want {
			t.Errorf("%s is %#x", name, got)
		}
	}
}

// TestClose: without Serve, and twice.
func TestClose(t *testing.T) {
	cfg := config(1, "a")
	cfg.Handler = newHandler()
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	a.SetPeers([]Peer{{2, "b", "127.0.0.1:1"}})
	if err := a.Close(within(t)); err != nil {
		t.Error(err)
	}
	if err := a.Close(within(t)); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	a.SetPeers([]Peer{{3, "c", "127.0.0.1:1"}})
	a.Send(2, elect.Ask{})
	if _, err := a.Follow(within(t), 2, testOpen); err == nil {
		t.Error("a closed transport follows")
	}
	if _, err := a.State(within(t), "127.0.0.1:1"); err == nil {
		t.Error("a closed transport asks")
	}
	if a.Address() != a.Addr().String() {
		t.Errorf("%s, %s", a.Address(), a.Addr())
	}
}
