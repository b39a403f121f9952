package object

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"
)

const (
	// defaultRegion is what servers other than Amazon's call theirs.
	defaultRegion = "us-east-1"
	// idleConnections is how many connections are kept for the next requests.
	idleConnections = 64
	// readAttempts is how often a request that changes nothing, or may be repeated, is sent.
	readAttempts = 3
	// maxBackoff bounds the time between two attempts, which is random. Callers that try for longer have a pace of their own.
	maxBackoff = 250 * time.Millisecond
)

// s3Store keeps objects in a bucket, see the package documentation.
type s3Store struct {
	client    *s3.Client
	transport *http.Transport
	bucket    string
	prefix    string // before every key: "" or ending with "/"
	settings  S3Config
	timeout   time.Duration
	partSize  int
}

var (
	_ Store     = (*s3Store)(nil)
	_ io.Closer = (*s3Store)(nil)
)

// openS3 makes the client of a bucket.
func openS3(ctx context.Context, l location, c Config) (*s3Store, error) {
	client, err := newHTTPClient(c.S3)
	if err != nil {
		return nil, err
	}
	loaded, err := config.LoadDefaultConfig(ctx, loadOptions(c.S3, client)...)
	if err != nil {
		return nil, fmt.Errorf("load settings of object store: %w", err)
	}
	s := &s3Store{bucket: l.bucket, settings: c.S3, timeout: c.timeout(), partSize: partSize}
	if l.prefix != "" {
		s.prefix = l.prefix + "/"
	}
	// An AWS_CA_BUNDLE has been added by now.
	s.transport = loaded.HTTPClient.(*awshttp.BuildableClient).GetTransport()
	s.client = s3.NewFromConfig(loaded, s.configure)
	if s.client.Options().Region == "" {
		return nil, errors.New("--s3-region is needed: neither the environment nor the profile says it")
	}
	return s, nil
}

// loadOptions turns the settings into the SDK's.
func loadOptions(c S3Config, client *awshttp.BuildableClient) []func(*config.LoadOptions) error {
	options := []func(*config.LoadOptions) error{
		config.WithHTTPClient(client),
		config.WithLogger(logging.Nop{}),
		config.WithAppID("kinsy"),
	}
	if c.Region != "" {
		options = append(options, config.WithRegion(c.Region))
	}
	if c.Profile != "" {
		options = append(options, config.WithSharedConfigProfile(c.Profile))
	}
	if c.AccessKey != "" {
		static := credentials.NewStaticCredentialsProvider(c.AccessKey, c.SecretKey, c.SessionToken)
		options = append(options, config.WithCredentialsProvider(static))
	}
	return options
}

// newHTTPClient makes the client of requests: many connections kept alive, and the authorities of the bundle.
func newHTTPClient(c S3Config) (*awshttp.BuildableClient, error) {
	var roots *x509.CertPool
	if c.CABundle != "" {
		pem, err := os.ReadFile(c.CABundle)
		if err != nil {
			return nil, fmt.Errorf("read --s3-ca-bundle: %w", err)
		}
		if roots, err = x509.SystemCertPool(); err != nil {
			roots = x509.NewCertPool()
		}
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--s3-ca-bundle %s holds no certificate", c.CABundle)
		}
	}
	client := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConns = idleConnections
		t.MaxIdleConnsPerHost = idleConnections
		if roots != nil {
			t.TLSClientConfig.RootCAs = roots
		}
	})
	return client, nil
}

// configure sets what is the same for all requests.
func (s *s3Store) configure(o *s3.Options) {
	o.HTTPClient = &http.Client{
		Transport:     s.transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if s.settings.Endpoint != "" {
		o.BaseEndpoint = aws.String(s.settings.Endpoint)
	}
	if o.Region == "" && o.BaseEndpoint != nil {
		o.Region = defaultRegion
	}
	switch s.settings.AddressingStyle {
	case AddressingPath:
		o.UsePathStyle = true
	case AddressingVirtual:
		o.UsePathStyle = false
	default:
		o.UsePathStyle = o.BaseEndpoint != nil
	}
	// Checksums are set request by request, as headers: many servers do not know them as trailers.
	o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
	o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenSupported
	o.DisableLogOutputChecksumValidationSkipped = true
	o.ContinueHeaderThresholdBytes = -1 // waiting for "100 Continue" costs a round trip
	o.RetryMaxAttempts = 0
	o.Retryer = retry.NewStandard(func(r *retry.StandardOptions) {
		r.MaxAttempts = readAttempts
		r.MaxBackoff = maxBackoff
		r.RateLimiter = ratelimit.None
	})
}

// once makes a request be sent once only.
func once(o *s3.Options) { o.Retryer = aws.NopRetryer{} }

// Close implements io.Closer.
func (s *s3Store) Close() error {
	s.transport.CloseIdleConnections()
	return nil
}

// errSlow is the cause of contexts that ended because the server did not answer in time.
var errSlow = errors.New("no answer in time")

// limit returns a context for one request with a body of some bytes.
func (s *s3Store) limit(ctx context.Context, size int) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, s.timeout+time.Duration(size>>20)*time.Second, errSlow)
}

// watchdog ends a context with errSlow when nobody has calmed it for some time.
type watchdog struct {
	timeout time.Duration
	timer   *time.Timer
	cancel  context.CancelCauseFunc
}

func newWatchdog(ctx context.Context, timeout time.Duration) (context.Context, *watchdog) {
	ctx, cancel := context.WithCancelCause(ctx)
	return ctx, &watchdog{timeout: timeout, cancel: cancel, timer: time.AfterFunc(timeout, func() { cancel(errSlow) })}
}

// start begins to wait, and calm ends it. A context that has ended stays so.
func (w *watchdog) start() { w.timer.Reset(w.timeout) }
func (w *watchdog) calm()  { w.timer.Stop() }

// stop ends the context.
func (w *watchdog) stop() {
	w.timer.Stop()
	w.cancel(context.Canceled)
}

// watched is a body whose reads are each watched.
type watched struct {
	io.ReadCloser
	dog *watchdog
}

// Read implements io.Reader.
func (w *watched) Read(p []byte) (int, error) {
	w.dog.start()
	defer w.dog.calm()
	return w.ReadCloser.Read(p)
}

// Close implements io.Closer.
func (w *watched) Close() error {
	w.dog.stop()
	return w.ReadCloser.Close()
}
