package node

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/kinsy/kinsy/internal/reload"
)

// Protocols offered by the listeners in the TLS handshake.
var (
	protocolsGRPC = []string{"h2"}
	protocolsHTTP = []string{"http/1.1"}
)

// certSource serves the certificate of the listeners and reads its files again when they change. It may be used by any
// number of handshakes at once.
type certSource struct {
	mu       sync.Mutex
	files    reload.Files // certificate, key, authorities
	grpcConf *tls.Config  // in force on the client listeners
	httpConf *tls.Config  // in force on the metrics and REST listeners
}

// newCertSource loads the files that the configuration names.
func newCertSource(c Config, now func() time.Time) (*certSource, error) {
	s := &certSource{}
	s.files = reload.Files{
		Paths: [3]string{c.CertFile, c.KeyFile, c.TrustedCAFile}, Load: s.loadLocked, What: "server certificate", Log: c.logger(), Now: now,
	}
	if err := s.files.First(); err != nil {
		return nil, err
	}
	return s, nil
}

// forGRPC returns the TLS configuration of the client listeners.
func (s *certSource) forGRPC() *tls.Config {
	return s.listenerConfig(protocolsGRPC, func() *tls.Config { return s.grpcConf })
}

// forHTTP returns the TLS configuration of the metrics and REST listeners.
func (s *certSource) forHTTP() *tls.Config {
	return s.listenerConfig(protocolsHTTP, func() *tls.Config { return s.httpConf })
}

// listenerConfig returns a configuration that asks for the one in force at every handshake. pick runs under the lock.
func (s *certSource) listenerConfig(protocols []string, pick func() *tls.Config) *tls.Config {
	current := func() *tls.Config {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.files.Refresh()
		return pick()
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: protocols,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return current(), nil
		},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return &current().Certificates[0], nil
		},
	}
}

// loadLocked reads the files and puts them in force, all or none.
func (s *certSource) loadLocked() error {
	cert, err := tls.LoadX509KeyPair(s.files.Paths[0], s.files.Paths[1])
	if err != nil {
		return fmt.Errorf("load server certificate: %w", err)
	}
	base := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}
	if ca := s.files.Paths[2]; ca != "" {
		pool, err := loadPool(ca)
		if err != nil {
			return err
		}
		base.ClientCAs = pool
		base.ClientAuth = tls.RequireAndVerifyClientCert
	}
	s.grpcConf, s.httpConf = base.Clone(), base.Clone()
	s.grpcConf.NextProtos, s.httpConf.NextProtos = protocolsGRPC, protocolsHTTP
	return nil
}

func loadPool(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("load trusted CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("load trusted CA: %s holds no certificate", path)
	}
	return pool, nil
}
