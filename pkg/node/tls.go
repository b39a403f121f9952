package node

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// certCheckInterval is the least time between two looks at the certificate files.
const certCheckInterval = time.Second

// Protocols offered by the listeners in the TLS handshake.
var (
	protocolsGRPC = []string{"h2"}
	protocolsHTTP = []string{"http/1.1"}
)

// fileStamp tells one version of a file from another.
type fileStamp struct {
	modified time.Time
	size     int64
}

// certSource serves the certificate of the listeners and reads its files again when they change. It may be used by any
// number of handshakes at once.
type certSource struct {
	certFile, keyFile, caFile string
	log                       *logrus.Logger
	now                       func() time.Time

	mu       sync.Mutex
	checked  time.Time    // when the files were last looked at
	stamps   [3]fileStamp // of the files at the last attempt to load them
	grpcConf *tls.Config  // in force on the client listeners
	httpConf *tls.Config  // in force on the metrics listener
}

// newCertSource loads the files that the configuration names.
func newCertSource(c Config, now func() time.Time) (*certSource, error) {
	s := &certSource{certFile: c.CertFile, keyFile: c.KeyFile, caFile: c.TrustedCAFile, log: c.logger(), now: now}
	s.checked = now()
	s.stamps, _ = s.stat()
	if err := s.loadLocked(); err != nil {
		return nil, err
	}
	return s, nil
}

// forGRPC returns the TLS configuration of the client listeners.
func (s *certSource) forGRPC() *tls.Config {
	return s.listenerConfig(protocolsGRPC, func() *tls.Config { return s.grpcConf })
}

// forHTTP returns the TLS configuration of the metrics listener.
func (s *certSource) forHTTP() *tls.Config {
	return s.listenerConfig(protocolsHTTP, func() *tls.Config { return s.httpConf })
}

// listenerConfig returns a configuration that asks for the one in force at every handshake. pick runs under the lock.
func (s *certSource) listenerConfig(protocols []string, pick func() *tls.Config) *tls.Config {
	current := func() *tls.Config {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.refreshLocked()
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

// refreshLocked loads the files again if they changed since the last attempt. What does not load is logged once and
// leaves everything as it was: certificate and key are often replaced one after the other.
func (s *certSource) refreshLocked() {
	now := s.now()
	if now.Sub(s.checked) < certCheckInterval {
		return
	}
	s.checked = now
	stamps, err := s.stat()
	if err == nil && stamps == s.stamps {
		return
	}
	if err == nil {
		err = s.loadLocked()
	}
	known := stamps == s.stamps
	s.stamps = stamps
	switch {
	case err == nil:
		s.log.WithField("cert-file", s.certFile).Info("server certificate reloaded")
	case !known:
		s.log.WithError(err).WithField("cert-file", s.certFile).Error("server certificate not reloaded, the one in force is kept")
	}
}

// stat returns the stamps of the files; that of a missing file is zero, and an error says so.
func (s *certSource) stat() ([3]fileStamp, error) {
	var stamps [3]fileStamp
	var errs []error
	for i, path := range []string{s.certFile, s.keyFile, s.caFile} {
		if path == "" {
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		stamps[i] = fileStamp{modified: info.ModTime(), size: info.Size()}
	}
	return stamps, errors.Join(errs...)
}

// loadLocked reads the files and puts them in force, all or none.
func (s *certSource) loadLocked() error {
	cert, err := tls.LoadX509KeyPair(s.certFile, s.keyFile)
	if err != nil {
		return fmt.Errorf("load server certificate: %w", err)
	}
	base := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}
	if s.caFile != "" {
		pool, err := loadPool(s.caFile)
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
