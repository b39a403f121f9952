package peer

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/kinsy/kinsy/internal/reload"
)

// certificates serves this node's certificate and the authorities it trusts, to both
// sides of connections, and reads their files again when they change. A connection
// that is open keeps what it was made with. It is safe for concurrent use.
type certificates struct {
	mu      sync.Mutex
	files   reload.Files // certificate, key, authorities
	own     *tls.Certificate
	trusted *x509.CertPool
}

// loadCertificates reads the files that the configuration names.
func loadCertificates(cfg Config, now func() time.Time) (*certificates, error) {
	c := &certificates{}
	c.files = reload.Files{
		Paths: [3]string{cfg.CertFile, cfg.KeyFile, cfg.CAFile}, Load: c.loadLocked, What: "peer certificate", Log: cfg.Logger, Now: now,
	}
	if err := c.files.First(); err != nil {
		return nil, err
	}
	return c, nil
}

// loadLocked reads the files and puts them in force, all or none.
func (c *certificates) loadLocked() error {
	own, err := tls.LoadX509KeyPair(c.files.Paths[0], c.files.Paths[1])
	if err != nil {
		return fmt.Errorf("load peer certificate: %w", err)
	}
	if own.Leaf == nil {
		if own.Leaf, err = x509.ParseCertificate(own.Certificate[0]); err != nil {
			return fmt.Errorf("load peer certificate: %w", err)
		}
	}
	pem, err := os.ReadFile(c.files.Paths[2])
	if err != nil {
		return fmt.Errorf("load peer authorities: %w", err)
	}
	trusted := x509.NewCertPool()
	if !trusted.AppendCertsFromPEM(pem) {
		return fmt.Errorf("load peer authorities: %s holds no certificate", c.files.Paths[2])
	}
	c.own, c.trusted = &own, trusted
	return nil
}

// current returns what is in force, after a look at the files if the last one is old.
func (c *certificates) current() (*tls.Certificate, *x509.CertPool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.files.Refresh()
	return c.own, c.trusted
}

// serverConfig is for the listener. Whom a certificate names is checked against the
// Hello of each call, not here, so that a refusal can say why.
func (c *certificates) serverConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			own, trusted := c.current()
			return &tls.Config{
				MinVersion:             tls.VersionTLS12,
				NextProtos:             []string{"h2"},
				Certificates:           []tls.Certificate{*own},
				ClientAuth:             tls.RequireAndVerifyClientCert,
				ClientCAs:              trusted,
				SessionTicketsDisabled: true, // a resumed session would outlive its authority
			}, nil
		},
	}
}

// clientConfig is for a connection to the node of a name, or to any node if that is
// "". Certificates of peers name nodes, not hosts.
func (c *certificates) clientConfig(name string, cluster uint64) *tls.Config {
	own, trusted := c.current()
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		NextProtos:         []string{"h2"},
		Certificates:       []tls.Certificate{*own},
		InsecureSkipVerify: true, // VerifyConnection does it, without a host name
		VerifyConnection: func(state tls.ConnectionState) error {
			return verifyServer(state.PeerCertificates, trusted, name, cluster)
		},
	}
}

func verifyServer(chain []*x509.Certificate, trusted *x509.CertPool, name string, cluster uint64) error {
	if len(chain) == 0 {
		return errors.New("no certificate")
	}
	between := x509.NewCertPool()
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{Roots: trusted, Intermediates: between}); err != nil {
		return err
	}
	return checkSubject(chain[0], name, cluster)
}

// checkSubject checks that a verified certificate is that of a node of the cluster,
// and of the name unless that is "".
func checkSubject(cert *x509.Certificate, name string, cluster uint64) error {
	if name != "" && cert.Subject.CommonName != name {
		return fmt.Errorf("the certificate (CN) is node %q's, not node %q's", cert.Subject.CommonName, name)
	}
	for _, organization := range cert.Subject.Organization {
		if ClusterID(organization) == cluster {
			return nil
		}
	}
	return fmt.Errorf("the certificate (O) is of cluster %q, not of %016x", strings.Join(cert.Subject.Organization, ", "), cluster)
}
