package object

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Values of the label "reason" of kinsy_object_store_errors_total.
const (
	reasonNotFound     = "not_found"
	reasonPrecondition = "precondition"
	reasonConflict     = "conflict"
	reasonDenied       = "denied"
	reasonUnavailable  = "unavailable"
	reasonCanceled     = "canceled"
	reasonTampered     = "tampered"
	reasonOther        = "other"
)

// Instrument returns a store that counts what is done on another one, and the collector of the counts:
//
//	kinsy_object_store_requests_total{operation}           calls
//	kinsy_object_store_errors_total{operation,reason}      calls that failed; not_found and precondition are ordinary answers
//	kinsy_object_store_bytes_total{operation}              bytes of bodies read by get, and written by put and upload
//	kinsy_object_store_request_seconds{operation}          time of a call; of a get until its first byte can be read
//
// A body that breaks off while it is read is an error of get. Above Encrypt the bytes are plain ones.
func Instrument(s Store) (Store, prometheus.Collector) {
	i := &instrumented{
		base: s,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kinsy_object_store_requests_total", Help: "Calls of the object store.",
		}, []string{"operation"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kinsy_object_store_errors_total", Help: "Calls of the object store that failed, by reason.",
		}, []string{"operation", "reason"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kinsy_object_store_bytes_total", Help: "Bytes of objects read or written.",
		}, []string{"operation"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "kinsy_object_store_request_seconds", Help: "Time of calls of the object store.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 15),
		}, []string{"operation"}),
	}
	for _, op := range []Op{OpGet, OpList, OpPut, OpUpload, OpDelete} {
		i.requests.WithLabelValues(string(op))
		i.seconds.WithLabelValues(string(op))
	}
	return i, i.collector()
}

// instrumented counts the calls of a store.
type instrumented struct {
	base             Store
	requests, errors *prometheus.CounterVec
	bytes            *prometheus.CounterVec
	seconds          *prometheus.HistogramVec
}

var (
	_ Store     = (*instrumented)(nil)
	_ io.Closer = (*instrumented)(nil)
)

// collectors is several of them as one.
type collectors []prometheus.Collector

func (i *instrumented) collector() prometheus.Collector {
	return collectors{i.requests, i.errors, i.bytes, i.seconds}
}

// Describe implements prometheus.Collector.
func (c collectors) Describe(ch chan<- *prometheus.Desc) {
	for _, one := range c {
		one.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (c collectors) Collect(ch chan<- prometheus.Metric) {
	for _, one := range c {
		one.Collect(ch)
	}
}

// done counts a call that has ended.
func (i *instrumented) done(op Op, start time.Time, err error) {
	i.requests.WithLabelValues(string(op)).Inc()
	i.seconds.WithLabelValues(string(op)).Observe(time.Since(start).Seconds())
	i.failed(op, err)
}

// failed counts an error.
func (i *instrumented) failed(op Op, err error) {
	if err != nil {
		i.errors.WithLabelValues(string(op), reason(err)).Inc()
	}
}

// add counts bytes.
func (i *instrumented) add(op Op, n int64) { i.bytes.WithLabelValues(string(op)).Add(float64(n)) }

// reason is the label of an error.
func reason(err error) string {
	for _, r := range []struct {
		target error
		label  string
	}{
		{context.Canceled, reasonCanceled},
		{context.DeadlineExceeded, reasonCanceled},
		{ErrNotFound, reasonNotFound},
		{ErrPrecondition, reasonPrecondition},
		{ErrConflict, reasonConflict},
		{ErrDenied, reasonDenied},
		{ErrUnavailable, reasonUnavailable},
		{ErrTampered, reasonTampered},
	} {
		if errors.Is(err, r.target) {
			return r.label
		}
	}
	return reasonOther
}

// Close implements io.Closer.
func (i *instrumented) Close() error { return Close(i.base) }

// Get implements Store.
func (i *instrumented) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, Info, error) {
	start := time.Now()
	r, info, err := i.base.Get(ctx, key, offset, length)
	i.done(OpGet, start, err)
	if err != nil {
		return nil, Info{}, err
	}
	return &countingReader{ReadCloser: r, store: i}, info, nil
}

// countingReader counts the bytes of a body, and the error that it ends with.
type countingReader struct {
	io.ReadCloser
	store  *instrumented
	failed bool
}

// Read implements io.Reader.
func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.store.add(OpGet, int64(n))
	if err != nil && err != io.EOF && !c.failed {
		c.failed = true
		c.store.failed(OpGet, err)
	}
	return n, err
}

// List implements Store. An error of fn is none of the store.
func (i *instrumented) List(ctx context.Context, prefix, after string, fn func(Info) error) error {
	start := time.Now()
	var own error
	err := i.base.List(ctx, prefix, after, func(info Info) error {
		own = fn(info)
		return own
	})
	if own != nil {
		i.done(OpList, start, nil)
	} else {
		i.done(OpList, start, err)
	}
	return err
}

// Put implements Store.
func (i *instrumented) Put(ctx context.Context, key string, body []byte, cond Condition) (string, error) {
	start := time.Now()
	version, err := i.base.Put(ctx, key, body, cond)
	i.done(OpPut, start, err)
	if err == nil {
		i.add(OpPut, int64(len(body)))
	}
	return version, err
}

// Upload implements Store.
func (i *instrumented) Upload(ctx context.Context, key string, r io.Reader) (Info, error) {
	start := time.Now()
	info, err := i.base.Upload(ctx, key, r)
	i.done(OpUpload, start, err)
	if err == nil {
		i.add(OpUpload, info.Size)
	}
	return info, err
}

// Delete implements Store.
func (i *instrumented) Delete(ctx context.Context, keys ...string) error {
	start := time.Now()
	err := i.base.Delete(ctx, keys...)
	i.done(OpDelete, start, err)
	return err
}
