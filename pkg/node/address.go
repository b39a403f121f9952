package node

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Networks of an address.
const (
	networkTCP  = "tcp"
	networkUnix = "unix"
)

// address is one place to listen at.
type address struct {
	network string // networkTCP or networkUnix
	addr    string // HOST:PORT, or the path of the socket
	secure  bool   // the address asked for TLS by its scheme
}

// String returns the address as a listen address is written.
func (a address) String() string {
	if a.network == networkUnix {
		return "unix://" + a.addr
	}
	return a.addr
}

// local reports whether only this machine can reach the address: a unix socket, or a loopback host.
func (a address) local() bool {
	if a.network == networkUnix {
		return true
	}
	host, _, err := net.SplitHostPort(a.addr)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// url returns the address as the URL of a client that connects to it.
func (a address) url(tls bool) string {
	scheme := "http"
	if a.network == networkUnix {
		scheme = networkUnix
	}
	if tls {
		scheme += "s"
	}
	return scheme + "://" + a.addr
}

// reachable returns the address with a host that other machines can be told: one that means every interface becomes
// the name given.
func (a address) reachable(name string) address {
	host, port, err := net.SplitHostPort(a.addr)
	if a.network == networkUnix || err != nil {
		return a
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		a.addr = net.JoinHostPort(name, port)
	}
	return a
}

// parseAddresses reads a comma-separated list of listen addresses.
func parseAddresses(list string) ([]address, error) {
	var all []address
	for field := range strings.SplitSeq(list, ",") {
		a, err := parseAddress(strings.TrimSpace(field))
		if err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, nil
}

// parseAddress reads one listen address: HOST:PORT with or without http://, https:// or tcp:// before it, or
// unix://PATH.
func parseAddress(s string) (address, error) {
	scheme, rest, found := strings.Cut(s, "://")
	if !found {
		scheme, rest = networkTCP, s
	}
	switch scheme {
	case "unix", "unixs":
		if rest == "" {
			return address{}, fmt.Errorf("%q has no path after unix://", s)
		}
		return address{network: networkUnix, addr: rest, secure: scheme == "unixs"}, nil
	case networkTCP, "http", "https":
		rest = strings.TrimSuffix(rest, "/")
		if err := checkHostPort(rest); err != nil {
			return address{}, err
		}
		return address{network: networkTCP, addr: rest, secure: scheme == "https"}, nil
	default:
		return address{}, fmt.Errorf("%q has an unknown scheme; use HOST:PORT or unix://PATH", s)
	}
}

func checkHostPort(s string) error {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("%q is not HOST:PORT", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n > 65535 {
		return fmt.Errorf("%q has no port between 0 and 65535", s)
	}
	return nil
}
