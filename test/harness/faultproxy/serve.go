package faultproxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	// maxBody bounds the body of one request.
	maxBody = 256 << 20
	// passLimit bounds a request whose client may have left.
	passLimit = time.Minute
)

var errCut = errors.New("cut off by the proxy")

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t := p.begin(classify(r))
	defer p.end(t)
	if t.fault == CutBefore {
		cut()
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		cut()
	}
	p.countBytes(len(body))
	p.act(w, r, t, body)
}

// act does what the fault says.
func (p *Proxy) act(w http.ResponseWriter, r *http.Request, t turn, body []byte) {
	switch t.fault {
	case ServerError:
		p.refuse(w, r, t, http.StatusInternalServerError, "InternalError")
	case SlowDown:
		p.refuse(w, r, t, http.StatusServiceUnavailable, "SlowDown")
	case Hold:
		p.hold(r.Context(), t)
		cut()
	case Late:
		p.later(r, t, body)
		cut()
	case CutRequest:
		p.discard(r, t, io.MultiReader(bytes.NewReader(body[:len(body)/2]), brokenReader{}), int64(len(body)))
		cut()
	case LostAnswer:
		p.discard(r, t, bytes.NewReader(body), int64(len(body)))
		cut()
	case HoldAnswer:
		p.discard(r, t, bytes.NewReader(body), int64(len(body)))
		p.hold(r.Context(), t)
		cut()
	case ErrorAfter:
		p.discard(r, t, bytes.NewReader(body), int64(len(body)))
		p.refuse(w, r, t, http.StatusInternalServerError, "InternalError")
	case Twice:
		p.discard(r, t, bytes.NewReader(body), int64(len(body)))
		p.answer(w, r, t, body)
	case Delay:
		p.wait(r.Context(), t.part(t.plan.MaxDelay))
		p.answer(w, r, t, body)
	default:
		p.answer(w, r, t, body)
	}
}

// cut closes the client's connection.
func cut() { panic(http.ErrAbortHandler) }

// part is the share of a longest wait that this request drew.
func (t turn) part(longest time.Duration) time.Duration {
	return time.Duration(t.share * float64(longest))
}

// brokenReader ends a body in its middle.
type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errCut }

// wait returns after a time, or when ctx or the proxy ends.
func (p *Proxy) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-p.closing:
	}
}

// hold returns when the client leaves or the plan is replaced.
func (p *Proxy) hold(ctx context.Context, t turn) {
	select {
	case <-ctx.Done():
	case <-t.replaced:
	case <-p.closing:
	}
}

// later passes a request on when its client has gone.
func (p *Proxy) later(r *http.Request, t turn, body []byte) {
	r = r.Clone(context.WithoutCancel(r.Context()))
	p.late.Go(func() {
		timer := time.NewTimer(t.part(t.plan.LateBy))
		defer timer.Stop()
		select {
		case <-timer.C:
			p.discard(r, t, bytes.NewReader(body), int64(len(body)))
		case <-p.closing:
		}
	})
}

// discard passes a request on and drops the answer.
func (p *Proxy) discard(r *http.Request, t turn, body io.Reader, length int64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), passLimit)
	defer cancel()
	resp, err := p.pass(ctx, r, t, body, length)
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, resp.Body) // nobody hears of it
	_ = resp.Body.Close()
}

// answer passes a request on and its answer back. A write goes on when its client leaves.
func (p *Proxy) answer(w http.ResponseWriter, r *http.Request, t turn, body []byte) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), passLimit)
	defer cancel()
	if t.Op == Get || t.Op == List || t.Op == Head {
		defer context.AfterFunc(r.Context(), cancel)()
	}
	resp, err := p.pass(ctx, r, t, bytes.NewReader(body), int64(len(body)))
	if err != nil {
		cut()
	}
	defer resp.Body.Close()
	p.wait(r.Context(), t.plan.Latency-time.Since(t.arrived))
	if t.fault == CutResponse {
		half(w, resp)
		cut()
	}
	for name, values := range resp.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(resp.StatusCode)
	if _, err := io.Copy(w, resp.Body); err != nil {
		cut()
	}
}

// half sends half of an answer: of its body, or of its first line where it has none.
func half(w http.ResponseWriter, resp *http.Response) {
	if body, _ := io.ReadAll(resp.Body); len(body) > 1 {
		for name, values := range resp.Header {
			w.Header()[name] = values
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		w.WriteHeader(resp.StatusCode)
		_, _ = w.Write(body[:len(body)/2]) // it is cut anyway
		_ = http.NewResponseController(w).Flush()
		return
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	_, _ = io.WriteString(conn, "HTTP/1.1 200 ")
	_ = conn.Close()
}

// refuse answers with an error of S3.
func (p *Proxy) refuse(w http.ResponseWriter, r *http.Request, t turn, status int, code string) {
	p.wait(r.Context(), t.plan.Latency-time.Since(t.arrived))
	text := fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>Please try again.</Message></Error>`, code)
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Content-Length", fmt.Sprint(len(text)))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text) // the client may have left
}

// pass sends a request to the store.
func (p *Proxy) pass(ctx context.Context, r *http.Request, t turn, body io.Reader, length int64) (*http.Response, error) {
	if length == 0 {
		body = http.NoBody
	}
	out, err := http.NewRequestWithContext(ctx, r.Method, p.target.String(), body)
	if err != nil {
		return nil, err
	}
	out.URL = &url.URL{Scheme: p.target.Scheme, Host: p.target.Host, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
	out.Host, out.ContentLength, out.Header = r.Host, length, r.Header.Clone()
	for _, name := range []string{"Connection", "Expect", "Te", "Transfer-Encoding"} {
		out.Header.Del(name)
	}
	if t.plan.IgnoreConditions {
		if err := p.forget(ctx, out); err != nil {
			return nil, err
		}
	}
	return p.transport.RoundTrip(out)
}

// forget takes the conditions away and signs the request again.
func (p *Proxy) forget(ctx context.Context, r *http.Request) error {
	for _, name := range []string{"If-Match", "If-None-Match", "Authorization"} {
		r.Header.Del(name)
	}
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	return signer.SignHTTP(ctx, p.cfg.Credentials, r, r.Header.Get("X-Amz-Content-Sha256"), "s3", p.cfg.Region, time.Now())
}
