package client

import (
	"crypto/tls"
	"math"
	"net"
	"net/url"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// Times of a connection: a silent one is tried after pingAfter, and given up after pingLimit more.
const (
	pingAfter = 10 * time.Second
	pingLimit = 6 * time.Second
)

// endpoint is a server's address.
type endpoint struct {
	name   string // as it was given
	target string // as gRPC takes it
	tls    bool
}

// parseEndpoints reads a list of HOST:PORT, http://HOST:PORT, https://HOST:PORT or unix:///PATH, separated by commas. secure
// says that there are flags of TLS.
func parseEndpoints(list string, secure bool) ([]endpoint, error) {
	var all []endpoint
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		e, err := parseEndpoint(name, secure)
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	if len(all) == 0 {
		return nil, usagef("--endpoints names no server")
	}
	return all, nil
}

func parseEndpoint(name string, secure bool) (endpoint, error) {
	e := endpoint{name: name, tls: secure}
	scheme, rest, found := strings.Cut(name, "://")
	if !found {
		scheme, rest = "", name
	}
	switch scheme {
	case "unix", "unixs":
		e.target, e.tls = "unix:"+rest, secure || scheme == "unixs"
		if rest == "" {
			return e, usagef("--endpoints: %q has no path", name)
		}
		return e, nil
	case "https":
		e.tls = true
	case "http":
		if secure {
			return e, usagef("--endpoints: %s is plain text, and there are flags of TLS", name)
		}
	case "":
	default:
		return e, usagef("--endpoints: %q is not HOST:PORT, http://HOST:PORT, https://HOST:PORT or unix:///PATH", name)
	}
	rest = strings.TrimSuffix(rest, "/")
	host, port, err := net.SplitHostPort(rest)
	if err != nil || port == "" || strings.ContainsAny(rest, "/@ ") {
		return e, usagef("--endpoints: %q is not HOST:PORT, http://HOST:PORT, https://HOST:PORT or unix:///PATH", name)
	}
	if host == "" {
		rest = net.JoinHostPort("127.0.0.1", port)
	}
	e.target = "dns:///" + (&url.URL{Path: rest}).EscapedPath()
	return e, nil
}

// dial makes the connection's object; the connection itself is made later. config is that of TLS, nil for the system's.
func (e endpoint) dial(config *tls.Config, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if e.tls {
		if config == nil {
			config = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		creds = credentials.NewTLS(config)
	}
	return grpc.NewClient(e.target, append(more,
		grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.MaxCallSendMsgSize(math.MaxInt32)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingAfter, Timeout: pingLimit}),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig}),
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(),
	)...)
}
