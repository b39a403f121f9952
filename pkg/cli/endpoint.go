package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/urfave/cli/v3"

	"github.com/kinsy/kinsy/pkg/cli/client"
	"github.com/kinsy/kinsy/pkg/transfer"
)

const categoryEndpoint = "Server"

// endpointSettings is what the flags of a server say that a command is a client of.
type endpointSettings struct {
	flag                           string // of the URL
	prefix                         string // of the other flags
	url, caFile, certFile, keyFile string
	user, password                 string
	insecure                       bool
}

// newEndpointFlags returns the flags of a server: that of its URL, named by flag, and those of TLS and the user, which begin with
// prefix.
func newEndpointFlags(flag, prefix, usage string) (*endpointSettings, []cli.Flag) {
	e := &endpointSettings{flag: flag, prefix: prefix}
	text := func(to *string, name, usage string) *cli.StringFlag {
		return &cli.StringFlag{Name: name, Category: categoryEndpoint, Usage: usage, Destination: to}
	}
	password := text(&e.password, prefix+"password", "password of --"+prefix+"user; every process of the machine can read a command line, so give it by the variable")
	password.Sources = cli.NewValueSourceChain(envSource(envName(kinsyPrefix, password.Name)))
	return e, []cli.Flag{
		text(&e.url, flag, usage),
		text(&e.caFile, prefix+"cacert", "PEM `FILE` with authorities to trust instead of the system's"),
		text(&e.certFile, prefix+"cert", "PEM `FILE` with the client's certificate"),
		text(&e.keyFile, prefix+"key", "PEM `FILE` with the key of the certificate"),
		text(&e.user, prefix+"user", "`NAME` to log in with"),
		password,
		&cli.BoolFlag{Name: prefix + "insecure-skip-tls-verify", Category: categoryEndpoint, HideDefault: true, Destination: &e.insecure,
			Usage: "take any certificate of the server"},
	}
}

// names are the flags that say nothing without the URL.
func (e *endpointSettings) names() []string {
	names := []string{"cacert", "cert", "key", "user", "password", "insecure-skip-tls-verify"}
	for i := range names {
		names[i] = e.prefix + names[i]
	}
	return names
}

// dial connects to the server and logs in.
func (e *endpointSettings) dial(ctx context.Context) (*transfer.Client, error) {
	if (e.user == "") != (e.password == "") {
		return nil, fmt.Errorf("--%suser and --%[1]spassword must be given together", e.prefix)
	}
	config, err := e.tls()
	if err != nil {
		return nil, err
	}
	client, err := transfer.Dial(ctx, transfer.Endpoint{Address: e.url, TLS: config, Username: e.user, Password: e.password})
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", e.flag, err)
	}
	return client, nil
}

// fetch reads the server.
func (e *endpointSettings) fetch(ctx context.Context, sink transfer.Sink, o transfer.FetchOptions) (sum transfer.Summary, err error) {
	client, err := e.dial(ctx)
	if err != nil {
		return transfer.Summary{}, err
	}
	defer closing(&err, client.Close)
	sum, err = client.Fetch(ctx, sink, o)
	return sum, explain(err)
}

// explain names the flag that would help.
func explain(err error) error {
	switch {
	case errors.Is(err, transfer.ErrAuth):
		return fmt.Errorf("%w; --drop-auth takes it without users and rights", err)
	case errors.Is(err, transfer.ErrLeaseTTL):
		return fmt.Errorf("%w; give --lease-ttl", err)
	}
	return err
}

// tls is the configuration of TLS; nil where no flag asks for one.
func (e *endpointSettings) tls() (*tls.Config, error) {
	return client.TLSFiles{Prefix: e.prefix, CA: e.caFile, Cert: e.certFile, Key: e.keyFile, SkipVerify: e.insecure}.Config()
}

// fetchFlags are those of a server that is read.
func fetchFlags(o *transfer.FetchOptions) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "prefix", Category: categoryEndpoint, Destination: &o.Prefix,
			Usage: "only keys that begin with it, read one by one; kine needs /"},
		&cli.Int64Flag{Name: "lease-ttl", Category: categoryEndpoint, Destination: &o.LeaseTTL, HideDefault: true,
			Usage: "`SECONDS` for leases whose TTL the server does not tell"},
		newDropAuthFlag(&o.DropAuth),
	}
}

func newDropAuthFlag(to *bool) cli.Flag {
	return &cli.BoolFlag{Name: "drop-auth", HideDefault: true, Destination: to,
		Usage: "take a database with authentication on, without its users and rights: every client can then read all of it"}
}
