package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// TLSFiles are the PEM files by which a client and a server prove themselves to each other.
type TLSFiles struct {
	// Prefix is what the flags' names begin with, for errors: --PREFIXcacert, --PREFIXcert, --PREFIXkey.
	Prefix string
	// CA has the authorities to trust instead of the system's; Cert and Key are the client's.
	CA, Cert, Key string
	// SkipVerify takes any certificate of the server.
	SkipVerify bool
}

// Config reads the files. It returns nil where nothing asks for TLS.
func (f TLSFiles) Config() (*tls.Config, error) {
	if (f.Cert == "") != (f.Key == "") {
		return nil, usagef("--%scert and --%[1]skey must be given together", f.Prefix)
	}
	if f.CA == "" && f.Cert == "" && !f.SkipVerify {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: f.SkipVerify}
	if f.CA != "" {
		text, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, fmt.Errorf("read authorities (--%scacert): %w", f.Prefix, err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("read authorities (--%scacert): %w", f.Prefix, errors.New("the file has no certificate"))
		}
	}
	if f.Cert != "" {
		pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return nil, fmt.Errorf("read certificate (--%scert): %w", f.Prefix, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
