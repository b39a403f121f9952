package node

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/kinsy/kinsy/pkg/gateway"
)

// maxRequestBytesLimit is the largest size that --max-request-bytes may name: beyond it a message could not be framed.
const maxRequestBytesLimit = 1 << 30

// maxUploadBytesLimit is the largest size that --upload-bytes may name: so much is held in memory at once.
const maxUploadBytesLimit = 64 << 20

// versionPattern is what --emulated-etcd-version must look like: clients parse it as a semantic version.
var versionPattern = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$`)

// Validate checks the configuration without touching the disk or the network. The error joins one sentence for each
// rule that is broken, and each names its flag.
func (c Config) Validate() error {
	return errors.Join(
		c.validateData(),
		c.validateTLS(),
		c.validateListen(),
		c.validateREST(),
		c.validateMetrics(),
		c.validateAPI(),
		c.validateCompaction(),
		c.ObjectStore.Validate(),
		c.validateQuorum(),
		c.validateUploads(),
		c.validateCluster(),
	)
}

func (c Config) validateData() error {
	store, err := parseEndpoint(c.Endpoint)
	if err != nil {
		return err
	}
	if store.path != "" && c.DataDir != "" && !sameFolder(filepath.Dir(store.path), c.DataDir) {
		return fmt.Errorf("--data-dir and --endpoint name different folders; give only one of them, or the same folder in both")
	}
	return nil
}

func (c Config) validateTLS() error {
	switch {
	case c.CertFile != "" && c.KeyFile == "":
		return errors.New("--server-cert-file needs --server-key-file")
	case c.KeyFile != "" && c.CertFile == "":
		return errors.New("--server-key-file needs --server-cert-file")
	case c.TrustedCAFile != "" && !c.TLS():
		return errors.New("--trusted-ca-file needs --server-cert-file and --server-key-file")
	}
	return nil
}

func (c Config) validateListen() error {
	if strings.TrimSpace(c.ListenAddress) == "" {
		return errors.New("--listen-address must name at least one address")
	}
	return errors.Join(c.validateAddresses("--listen-address", c.ListenAddress), c.validateAdvertise())
}

// validateAddresses checks the addresses of a flag that names listeners.
func (c Config) validateAddresses(flag, list string) error {
	addresses, err := parseAddresses(list)
	if err != nil {
		return fmt.Errorf("%s: %w", flag, err)
	}
	var errs []error
	seen := make(map[string]bool)
	for _, a := range addresses {
		if seen[a.String()] && !strings.HasSuffix(a.addr, ":0") {
			errs = append(errs, fmt.Errorf("%s names %s twice", flag, a))
		}
		seen[a.String()] = true
		if a.secure && !c.TLS() {
			errs = append(errs, fmt.Errorf("%s %s asks for TLS, which needs --server-cert-file and --server-key-file", flag, a))
		}
		errs = append(errs, c.checkExposed(flag, a, c.TLS()))
	}
	return errors.Join(errs...)
}

func (c Config) validateREST() error {
	if !c.rest() {
		return nil
	}
	errs := []error{c.validateAddresses("--http-address", c.HTTPAddress)}
	for _, o := range splitList(c.CORS) {
		if err := gateway.CheckOrigin(o); err != nil {
			errs = append(errs, fmt.Errorf("--cors: %w", err))
		}
	}
	return errors.Join(errs...)
}

func (c Config) validateAdvertise() error {
	for _, s := range splitList(c.AdvertiseClientURLs) {
		u, err := url.Parse(s)
		if err != nil || u.Scheme == "" || (u.Host == "" && u.Path == "") {
			return fmt.Errorf("--advertise-client-urls: %q is not a URL such as https://HOST:PORT", s)
		}
	}
	return nil
}

func (c Config) validateMetrics() error {
	if c.MetricsBindAddress == MetricsOff {
		if c.EnablePprof {
			return errors.New("--metrics-enable-profiling needs a --metrics-bind-address other than 0")
		}
		return nil
	}
	if err := checkHostPort(c.MetricsBindAddress); err != nil {
		return fmt.Errorf("--metrics-bind-address: %w; 0 turns it off", err)
	}
	a := address{network: networkTCP, addr: c.MetricsBindAddress}
	return c.checkExposed("--metrics-bind-address", a, c.metricsTLS())
}

// checkExposed refuses a listener beyond loopback that serves no TLS, unless a flag allows it.
func (c Config) checkExposed(flag string, a address, tls bool) error {
	if tls || c.AllowInsecureListen || a.local() {
		return nil
	}
	return fmt.Errorf("%s %s is open beyond loopback without TLS; give --server-cert-file and --server-key-file, or allow it with --allow-insecure-listen", flag, a)
}

func (c Config) validateAPI() error {
	var errs []error
	if c.API != APINetsy && c.API != APIEtcd {
		errs = append(errs, fmt.Errorf("--api must be %s or %s, not %q", APINetsy, APIEtcd, c.API))
	}
	if c.Name == "" {
		errs = append(errs, errors.New("--name must not be empty"))
	}
	if !versionPattern.MatchString(c.EmulatedEtcdVersion) {
		errs = append(errs, fmt.Errorf("--emulated-etcd-version must be a version such as %s, not %q", DefaultEmulatedEtcdVersion, c.EmulatedEtcdVersion))
	}
	if c.MaxRequestBytes <= 0 || c.MaxRequestBytes > maxRequestBytesLimit {
		errs = append(errs, fmt.Errorf("--max-request-bytes must be between 1 and %d", maxRequestBytesLimit))
	}
	if c.ValueCacheBytes < 0 {
		errs = append(errs, errors.New("--value-cache-bytes must not be negative"))
	}
	if c.NotifyInterval < 0 {
		errs = append(errs, errors.New("--watch-progress-notify-interval must not be negative"))
	}
	return errors.Join(errs...)
}

func (c Config) validateCompaction() error {
	var errs []error
	if c.CompactInterval < 0 {
		errs = append(errs, errors.New("--compact-interval must not be negative"))
	}
	if c.CompactIntervalJitter < 0 || c.CompactIntervalJitter > 99 {
		errs = append(errs, errors.New("--compact-interval-jitter must be between 0 and 99"))
	}
	if c.CompactTimeout <= 0 {
		errs = append(errs, errors.New("--compact-timeout must be more than 0"))
	}
	if c.CompactMinRetain < 0 {
		errs = append(errs, errors.New("--compact-min-retain must not be negative"))
	}
	if c.CompactBatchSize <= 0 {
		errs = append(errs, errors.New("--compact-batch-size must be more than 0"))
	}
	return errors.Join(errs...)
}

func (c Config) validateQuorum() error {
	switch {
	case c.Quorum < QuorumLocal:
		return errors.New("--quorum must not be less than -1")
	case c.Quorum > QuorumObjectStore && !c.Clustered():
		return errors.New("--quorum 1 and more needs a cluster: --peer-listen-address; a node that is alone has -1 or 0")
	case c.Quorum == QuorumObjectStore && c.ObjectStore.URL == "":
		return errors.New("--quorum 0 needs --object-store")
	}
	return nil
}

func (c Config) validateUploads() error {
	var errs []error
	if c.UploadInterval <= 0 {
		errs = append(errs, errors.New("--upload-interval must be more than 0"))
	}
	if c.UploadBytes <= 0 || c.UploadBytes > maxUploadBytesLimit {
		errs = append(errs, fmt.Errorf("--upload-bytes must be between 1 and %d", maxUploadBytesLimit))
	}
	if c.SnapshotRows < 0 {
		errs = append(errs, errors.New("--snapshot-rows must not be negative"))
	}
	if c.SnapshotInterval < 0 {
		errs = append(errs, errors.New("--snapshot-interval must not be negative"))
	}
	if c.SnapshotRetention < 1 {
		errs = append(errs, errors.New("--snapshot-retention must be at least 1"))
	}
	if c.SnapshotRetentionTime < 0 {
		errs = append(errs, errors.New("--snapshot-retention-time must not be negative"))
	}
	return errors.Join(errs...)
}

// splitList returns the fields of a comma-separated list without the empty ones.
func splitList(list string) []string {
	var out []string
	for s := range strings.SplitSeq(list, ",") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// sameFolder reports whether two paths name one folder by their text.
func sameFolder(a, b string) bool {
	absA, errA := filepath.Abs(a)
	absB, errB := filepath.Abs(b)
	return errA == nil && errB == nil && absA == absB
}
