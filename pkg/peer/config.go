package peer

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"

	"github.com/sirupsen/logrus"

	"github.com/kinsy/kinsy/pkg/elect"
)

// DefaultMaxFrameBytes is the default of Config.MaxFrameBytes.
const DefaultMaxFrameBytes = 16 << 20

// frameSlack is what a message may be larger than MaxFrameBytes, for what is around
// the rows or the request.
const frameSlack = 1 << 20

// Config of a Transport.
type Config struct {
	// Self is the identity of this node's disk; 0 for a client, which may only ask
	// for State and HandOver.
	Self elect.NodeID
	// Name is --node-id: 1 to 63 of [a-zA-Z0-9._-]. With certificates it is their CN.
	Name string
	// Cluster is the cluster's id: ClusterID of --cluster-id. Never 0.
	Cluster uint64
	// ListenAddress is host:port; port 0 chooses one. "": does not listen.
	ListenAddress string
	// AdvertiseAddress is where the others reach this node; "" for the address that it
	// listens on.
	AdvertiseAddress string
	// CertFile, KeyFile and CAFile are PEM files: certificate and key of this node,
	// for both sides of a connection, and the authorities whom both sides trust. They
	// are read again when they change.
	CertFile, KeyFile, CAFile string
	// Insecure uses no TLS. Every address must then be a loopback one.
	Insecure bool
	// MaxFrameBytes bounds a frame, and a forwarded request; 0 means
	// DefaultMaxFrameBytes. It must be the same on all nodes.
	MaxFrameBytes int
	// Logger; nil means logrus's standard one.
	Logger logrus.FieldLogger
	// Handler is needed where ListenAddress is given.
	Handler Handler
}

// withDefaults fills in zero values.
func (c Config) withDefaults() Config {
	if c.MaxFrameBytes == 0 {
		c.MaxFrameBytes = DefaultMaxFrameBytes
	}
	if c.Logger == nil {
		c.Logger = logrus.StandardLogger()
	}
	return c
}

var validName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,63}$`)

// Validate checks the configuration; errors name the flags.
func (c Config) Validate() error {
	switch {
	case !validName.MatchString(c.Name):
		return fmt.Errorf("--node-id %q is not 1 to 63 letters, digits, dots, dashes or underscores", c.Name)
	case c.Cluster == 0:
		return errors.New("--cluster-id is missing")
	case c.MaxFrameBytes < 0:
		return fmt.Errorf("the largest frame is %d bytes", c.MaxFrameBytes)
	case c.ListenAddress != "" && (c.Self == 0 || c.Handler == nil):
		return errors.New("a node that listens needs an identity and a handler")
	}
	if err := c.validateTLS(); err != nil {
		return err
	}
	return c.validateAddresses()
}

func (c Config) validateTLS() error {
	given := c.CertFile != "" || c.KeyFile != "" || c.CAFile != ""
	complete := c.CertFile != "" && c.KeyFile != "" && c.CAFile != ""
	switch {
	case c.Insecure && given:
		return errors.New("--insecure-peers and --peer-cert-file, --peer-key-file, --peer-ca-file exclude each other")
	case !c.Insecure && !complete:
		return errors.New("--peer-cert-file, --peer-key-file and --peer-ca-file are needed together; --insecure-peers does without on loopback addresses")
	}
	return nil
}

func (c Config) validateAddresses() error {
	for _, a := range []struct{ flag, address string }{
		{"--peer-listen-address", c.ListenAddress}, {"--peer-advertise-address", c.AdvertiseAddress},
	} {
		if a.address == "" {
			continue
		}
		host, port, err := net.SplitHostPort(a.address)
		if err != nil || port == "" {
			return fmt.Errorf("%s %q is not HOST:PORT", a.flag, a.address)
		}
		if c.Insecure && !loopback(a.address) {
			return fmt.Errorf("%s %s is not a loopback address, which --insecure-peers needs; give --peer-cert-file, --peer-key-file and --peer-ca-file", a.flag, a.address)
		}
		if a.flag == "--peer-advertise-address" && (host == "" || net.ParseIP(host).IsUnspecified()) {
			return fmt.Errorf("%s %s is no address that others can reach", a.flag, a.address)
		}
	}
	return nil
}

// loopback reports whether only this machine can reach host:port.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// ClusterID is the id of the cluster that --cluster-id names: the first 8 bytes of the
// SHA-256 of the name, or the name itself where it is 16 lower-case hexadecimal digits.
// It is never 0.
func ClusterID(name string) uint64 {
	if id, err := strconv.ParseUint(name, 16, 64); err == nil && id != 0 && fmt.Sprintf("%016x", id) == name {
		return id
	}
	sum := sha256.Sum256([]byte(name))
	if id := binary.BigEndian.Uint64(sum[:8]); id != 0 {
		return id
	}
	return 1
}
