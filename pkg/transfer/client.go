package transfer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// Endpoint is a server that speaks etcd's API.
type Endpoint struct {
	// Address is host:port, with http:// or https:// before it if wanted.
	Address string
	// TLS is used for the connection; nil is plain text, unless Address says
	// https.
	TLS *tls.Config
	// Username and Password log in where Username is not empty.
	Username, Password string
}

// Client is a connection to a server. Its methods may be called concurrently.
type Client struct {
	conn  *grpc.ClientConn
	kv    pb.KVClient
	lease pb.LeaseClient
	maint pb.MaintenanceClient
	token string
}

// Dial connects and, with a user name, logs in. The connection itself is made
// when it is first used. No error contains the password.
func Dial(ctx context.Context, e Endpoint) (*Client, error) {
	address, tlsConfig, err := e.parse()
	if err != nil {
		return nil, err
	}
	creds := insecure.NewCredentials()
	if tlsConfig != nil {
		creds = credentials.NewTLS(tlsConfig)
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(creds), grpc.WithDefaultCallOptions(
		grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.MaxCallSendMsgSize(math.MaxInt32)))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	c := NewClient(conn)
	if e.Username == "" {
		return c, nil
	}
	r, err := pb.NewAuthClient(conn).Authenticate(ctx, &pb.AuthenticateRequest{Name: e.Username, Password: e.Password})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("log in to %s as %q: %w", address, e.Username, err), conn.Close())
	}
	c.token = r.Token
	return c, nil
}

// NewClient uses a connection that is there. Close ends it.
func NewClient(conn *grpc.ClientConn) *Client {
	return &Client{
		conn: conn, kv: pb.NewKVClient(conn), lease: pb.NewLeaseClient(conn), maint: pb.NewMaintenanceClient(conn),
	}
}

// parse splits the scheme off the address.
func (e Endpoint) parse() (address string, config *tls.Config, err error) {
	address, config = e.Address, e.TLS
	if rest, ok := strings.CutPrefix(address, "https://"); ok {
		address = rest
		if config == nil {
			config = &tls.Config{MinVersion: tls.VersionTLS12}
		}
	} else if rest, ok := strings.CutPrefix(address, "http://"); ok {
		if config != nil {
			return "", nil, fmt.Errorf("endpoint %s is plain text, and TLS is configured", address)
		}
		address = rest
	}
	address = strings.TrimSuffix(address, "/")
	if address == "" || strings.ContainsAny(address, "/@ ") {
		return "", nil, errors.New("an endpoint is host:port, with http:// or https:// before it if wanted")
	}
	return address, config, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// auth puts the token of the login on the calls of a context.
func (c *Client) auth(ctx context.Context) context.Context {
	if c.token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, c.token)
}

// everything is the range of all keys.
var everything = []byte{0}

// prefixRange is the range of the keys that begin with a prefix.
func prefixRange(prefix string) (key, end []byte) {
	if prefix == "" {
		return everything, everything
	}
	end = []byte(prefix)
	for len(end) > 0 && end[len(end)-1] == 0xff {
		end = end[:len(end)-1]
	}
	if len(end) == 0 {
		return []byte(prefix), everything
	}
	end[len(end)-1]++
	return []byte(prefix), end
}
