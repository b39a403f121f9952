package object

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
)

// DefaultTimeout is how long one small request may take.
const DefaultTimeout = 10 * time.Second

// How a bucket is addressed, S3Config.AddressingStyle.
const (
	// AddressingAuto is path style where an endpoint is set, else virtual.
	AddressingAuto = "auto"
	// AddressingPath has the bucket in the path of the URL.
	AddressingPath = "path"
	// AddressingVirtual has the bucket in the name of the host.
	AddressingVirtual = "virtual"
)

// Server-side encryption, S3Config.SSE.
const (
	SSEAES256 = "AES256"
	SSEKMS    = "aws:kms"
)

// Config says which object store is used, and how. The zero value is none. Validate names the command-line flags.
type Config struct {
	// URL is s3://BUCKET/PREFIX or file:///FOLDER (--object-store). Empty means none.
	URL string
	// S3 is for s3:// URLs.
	S3 S3Config
	// KeyFile turns on client-side encryption (--object-store-key-file): lines of an id, a space and 32 bytes in base64.
	// The first key encrypts, all decrypt.
	KeyFile string
	// Timeout bounds one request of up to 1 MiB (--object-store-timeout); a larger body gets a second more for each MiB,
	// and a download may go on as long as bytes arrive within this time. 0 means DefaultTimeout.
	Timeout time.Duration
	// Logger receives warnings; nil means logrus's standard logger.
	Logger logrus.FieldLogger
}

// S3Config says how an S3 server is reached. Names of flags are kine's where kine has the same.
type S3Config struct {
	// Endpoint is http(s)://HOST[:PORT] of a server other than Amazon's (--s3-endpoint).
	Endpoint string
	// Region is the server's region (--s3-region). Empty: from the environment or the profile, else us-east-1 if Endpoint is
	// set.
	Region string
	// AddressingStyle is AddressingAuto, also if empty, AddressingPath or AddressingVirtual (--s3-addressing-style).
	AddressingStyle string
	// AccessKey, SecretKey and SessionToken are static credentials (--s3-access-key, --s3-secret-key, --s3-session-token).
	// Without them the usual sources of the environment are asked: variables, the profile, the instance's role.
	AccessKey, SecretKey, SessionToken string
	// Profile names a profile in the shared AWS files (--s3-profile).
	Profile string
	// CABundle is a PEM file of authorities trusted beside the system's (--s3-ca-bundle).
	CABundle string
	// SSE is the server-side encryption asked for: empty, SSEAES256 or SSEKMS (--s3-sse).
	SSE string
	// SSEKMSKeyID is the key for SSEKMS; empty means the bucket's (--s3-sse-kms-key-id).
	SSEKMSKeyID string
	// StorageClass is that of snapshots, everything that Upload writes (--s3-storage-class): chunks are small, short-lived
	// and read at every start, which classes for rare access charge for. Empty means the bucket's.
	StorageClass string
}

// String shows the settings without the credentials.
func (c S3Config) String() string {
	return fmt.Sprintf("endpoint %q, region %q, profile %q, static credentials %t", c.Endpoint, c.Region, c.Profile, c.AccessKey != "")
}

// GoString is String, so that no verb of fmt shows credentials.
func (c S3Config) GoString() string { return c.String() }

// Schemes of Config.URL.
const (
	schemeS3   = "s3"
	schemeFile = "file"
)

// location is what a Config.URL says.
type location struct {
	scheme string
	bucket string // s3
	prefix string // s3: "" or elements separated by "/"
	folder string // file: an absolute path
}

// maxPrefixLen leaves room for a key within the 1024 bytes of S3.
const maxPrefixLen = 1024 - MaxKeyLen - 1

var bucketPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]$`)

// parseURL never puts the URL into an error, since somebody may have written credentials into it.
func parseURL(text string) (location, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return location{}, errors.New("--object-store is not a URL")
	case u.User != nil:
		return location{}, errors.New("--object-store must not hold credentials; use --s3-access-key and --s3-secret-key")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Opaque != "":
		return location{}, errors.New("--object-store must be s3://BUCKET/PREFIX or file:///FOLDER and nothing more")
	}
	switch u.Scheme {
	case schemeS3:
		return parseS3(u)
	case schemeFile:
		return parseFile(u)
	}
	return location{}, errors.New("--object-store must begin with s3:// or file://")
}

func parseS3(u *url.URL) (location, error) {
	if !bucketPattern.MatchString(u.Host) {
		return location{}, errors.New("--object-store s3://BUCKET/PREFIX needs the name of a bucket: 3 to 63 letters, digits, dots, hyphens")
	}
	l := location{scheme: schemeS3, bucket: u.Host, prefix: strings.Trim(u.Path, "/")}
	if len(l.prefix) > maxPrefixLen {
		return location{}, fmt.Errorf("--object-store has a prefix of more than %d bytes", maxPrefixLen)
	}
	if l.prefix != "" {
		if reason := badName(l.prefix); reason != "" {
			return location{}, fmt.Errorf("--object-store has a prefix that %s", reason)
		}
	}
	return l, nil
}

func parseFile(u *url.URL) (location, error) {
	if u.Host != "" && u.Host != "localhost" {
		return location{}, errors.New("--object-store file:///FOLDER has three slashes and an absolute path")
	}
	folder := filepath.Clean(filepath.FromSlash(u.Path))
	if !filepath.IsAbs(folder) || folder == filepath.Dir(folder) || strings.ContainsRune(folder, 0) {
		return location{}, errors.New("--object-store file:///FOLDER needs the absolute path of a folder other than the root")
	}
	return location{scheme: schemeFile, folder: folder}, nil
}

// Validate returns an error that names the flag of the first field that is wrong. It uses neither disk nor network, and
// its texts hold no credentials. A Config without a URL is valid if nothing else but Timeout and Logger is set.
func (c Config) Validate() error {
	var l location
	if c.URL != "" {
		var err error
		if l, err = parseURL(c.URL); err != nil {
			return err
		}
	}
	switch {
	case c.KeyFile != "" && c.URL == "":
		return errors.New("--object-store-key-file needs --object-store")
	case c.Timeout < 0:
		return errors.New("--object-store-timeout must not be negative")
	case l.scheme != schemeS3 && c.S3 != S3Config{}:
		return errors.New("the --s3- flags need --object-store s3://BUCKET/PREFIX")
	}
	return c.S3.validate()
}

func (c S3Config) validate() error {
	if err := c.validateEndpoint(); err != nil {
		return err
	}
	switch {
	case c.AddressingStyle != "" && c.AddressingStyle != AddressingAuto && c.AddressingStyle != AddressingPath && c.AddressingStyle != AddressingVirtual:
		return fmt.Errorf("--s3-addressing-style must be %s, %s or %s", AddressingAuto, AddressingPath, AddressingVirtual)
	case (c.AccessKey == "") != (c.SecretKey == ""):
		return errors.New("--s3-access-key and --s3-secret-key must be set together")
	case c.SessionToken != "" && c.AccessKey == "":
		return errors.New("--s3-session-token needs --s3-access-key and --s3-secret-key")
	case c.Profile != "" && c.AccessKey != "":
		return errors.New("--s3-profile and --s3-access-key exclude each other")
	case c.SSE != "" && c.SSE != SSEAES256 && c.SSE != SSEKMS:
		return fmt.Errorf("--s3-sse must be %s or %s", SSEAES256, SSEKMS)
	case c.SSEKMSKeyID != "" && c.SSE != SSEKMS:
		return fmt.Errorf("--s3-sse-kms-key-id needs --s3-sse %s", SSEKMS)
	}
	return nil
}

func (c S3Config) validateEndpoint() error {
	if c.Endpoint == "" {
		return nil
	}
	u, err := url.Parse(c.Endpoint)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return errors.New("--s3-endpoint must be http://HOST[:PORT] or https://HOST[:PORT]")
	case u.User != nil:
		return errors.New("--s3-endpoint must not hold credentials; use --s3-access-key and --s3-secret-key")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return errors.New("--s3-endpoint must not have a query or a fragment")
	}
	return nil
}

// timeout returns Timeout or its default.
func (c Config) timeout() time.Duration {
	if c.Timeout == 0 {
		return DefaultTimeout
	}
	return c.Timeout
}

// logger returns Logger or its default.
func (c Config) logger() logrus.FieldLogger {
	if c.Logger == nil {
		return logrus.StandardLogger()
	}
	return c.Logger
}

// Open returns the store of a Config, which it validates; a Config without a URL is an error. For s3:// nothing is sent
// to the server, but shared AWS files are read and region and credentials looked up as the environment says; for file://
// the folder is created. The key file, if there is one, is read once. Close releases the store.
func Open(ctx context.Context, c Config) (Store, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	l, err := parseURL(c.URL)
	if err != nil {
		return nil, err
	}
	var keys *KeyRing
	if c.KeyFile != "" {
		if keys, err = readKeyFile(c.KeyFile, c.logger()); err != nil {
			return nil, err
		}
	}
	var s Store
	if l.scheme == schemeS3 {
		s, err = openS3(ctx, l, c)
	} else {
		s, err = openFile(l.folder)
	}
	if err != nil {
		return nil, err
	}
	if keys != nil {
		s = Encrypt(s, keys)
	}
	return s, nil
}
