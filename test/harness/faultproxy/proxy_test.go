package faultproxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

const testKey = "log/chunks/1"

// origin is a store that knows PUT with If-None-Match, and GET.
type origin struct {
	mu      sync.Mutex
	objects map[string]string
	heard   chan string // method and path of each request that arrived whole
}

func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	defer func() { o.heard <- r.Method + " " + r.URL.Path }()
	o.mu.Lock()
	defer o.mu.Unlock()
	old, found := o.objects[r.URL.Path]
	switch {
	case r.Method == http.MethodPut && found && r.Header.Get("If-None-Match") == "*":
		w.WriteHeader(http.StatusPreconditionFailed)
	case r.Method == http.MethodPut:
		o.objects[r.URL.Path] = string(body)
	case !found:
		w.WriteHeader(http.StatusNotFound)
	default:
		_, _ = io.WriteString(w, old)
	}
}

func (o *origin) has(key string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, found := o.objects["/bucket/"+key]
	return found
}

// bench is a proxy before an origin, with a client.
type bench struct {
	*Proxy
	origin *origin
	client *http.Client
}

func newBench(t *testing.T) *bench {
	t.Helper()
	o := &origin{objects: map[string]string{}, heard: make(chan string, 100)}
	server := httptest.NewServer(o)
	t.Cleanup(server.Close)
	p, err := Start(Config{Target: server.URL, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return &bench{Proxy: p, origin: o, client: &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}}
}

// send sends a request and returns its status and body; an error also where the body breaks off.
func (b *bench) send(ctx context.Context, method, key, body string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, method, b.URL()+"/bucket/"+key, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("If-None-Match", "*")
	resp, err := b.client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// TestFaultsDoWhatTheySay sends one PUT for each fault, and looks at the answer and at the store.
func TestFaultsDoWhatTheySay(t *testing.T) {
	const cutOff = 0
	for _, test := range []struct {
		fault  Fault
		status int
		done   bool
	}{
		{None, http.StatusOK, true},
		{ServerError, http.StatusInternalServerError, false},
		{SlowDown, http.StatusServiceUnavailable, false},
		{CutBefore, cutOff, false},
		{CutRequest, cutOff, false},
		{CutResponse, cutOff, true},
		{LostAnswer, cutOff, true},
		{ErrorAfter, http.StatusInternalServerError, true},
		{Late, cutOff, true},
		{Twice, http.StatusPreconditionFailed, true},
		{Delay, http.StatusOK, true},
	} {
		t.Run(test.fault.String(), func(t *testing.T) {
			b := newBench(t)
			b.Set(Plan{Chance: map[Fault]float64{test.fault: 1}, LateBy: 50 * time.Millisecond, MaxDelay: 50 * time.Millisecond})
			status, _, err := b.send(t.Context(), http.MethodPut, testKey, "value")
			if status != test.status || (err != nil) != (test.status == cutOff) {
				t.Errorf("answer is %d (%v), want %d", status, err, test.status)
			}
			b.Set(Plan{})
			if err := b.Settle(t.Context()); err != nil {
				t.Error(err)
			}
			if done := b.origin.has(testKey); done != test.done {
				t.Errorf("object is there: %t, want %t", done, test.done)
			}
			if test.fault != None && b.Stats().Faults[test.fault] != 1 {
				t.Errorf("counts are %v", b.Stats().Faults)
			}
		})
	}
}

// TestHeldRequestsEndWithThePlan holds a request before and one after it took effect.
func TestHeldRequestsEndWithThePlan(t *testing.T) {
	for fault, done := range map[Fault]bool{Hold: false, HoldAnswer: true} {
		b := newBench(t)
		arrived := make(chan Request, 2)
		b.Set(Plan{Chance: map[Fault]float64{fault: 1}, Only: func(r Request) bool { arrived <- r; return true }})
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if _, _, err := b.send(ctx, http.MethodPut, testKey, "value"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: a request was answered: %v", fault, err)
		}
		cancel()
		answered := make(chan error, 1)
		go func() {
			_, _, err := b.send(t.Context(), http.MethodPut, "other", "value")
			answered <- err
		}()
		<-arrived
		<-arrived
		b.Set(Plan{})
		if err := <-answered; err == nil {
			t.Errorf("%s: a held request was answered", fault)
		}
		if b.origin.has(testKey) != done {
			t.Errorf("%s: object is there: %t, want %t", fault, !done, done)
		}
		if status, _, err := b.send(t.Context(), http.MethodPut, "third", "value"); status != http.StatusOK {
			t.Errorf("%s: afterwards a request is answered with %d, %v", fault, status, err)
		}
	}
}

// TestCutResponseBreaksABody reads half of an object.
func TestCutResponseBreaksABody(t *testing.T) {
	b := newBench(t)
	value := strings.Repeat("0123456789", 1000)
	if _, _, err := b.send(t.Context(), http.MethodPut, testKey, value); err != nil {
		t.Fatal(err)
	}
	b.Set(Plan{Chance: map[Fault]float64{CutResponse: 1}})
	_, body, err := b.send(t.Context(), http.MethodGet, testKey, "")
	if err == nil || len(body) == 0 || len(body) > len(value)/2 {
		t.Errorf("read %d of %d bytes: %v", len(body), len(value), err)
	}
}

// TestLatencyIsTheLeastTimeOfARequest times requests.
func TestLatencyIsTheLeastTimeOfARequest(t *testing.T) {
	const latency = 25 * time.Millisecond
	b := newBench(t)
	b.Set(Plan{Latency: latency})
	start := time.Now()
	if _, _, err := b.send(t.Context(), http.MethodPut, testKey, "value"); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < latency {
		t.Errorf("a request took %s", took)
	}
	if err := b.Close(); err != nil { // so that the request has ended
		t.Error(err)
	}
	if spent := b.Stats().PutTime; spent < latency {
		t.Errorf("the PUT took %s by the count", spent)
	}
}

// TestRateIsKept sends requests faster than the plan has it.
func TestRateIsKept(t *testing.T) {
	b := newBench(t)
	b.Set(Plan{Rate: 3})
	refused := 0
	start := time.Now()
	for range 5 {
		if status, _, _ := b.send(t.Context(), http.MethodGet, testKey, ""); status == http.StatusServiceUnavailable {
			refused++
		}
	}
	if refused != 2 && time.Since(start) < time.Second {
		t.Errorf("%d of 5 requests were refused", refused)
	}
}

// TestFaultsHitOnlyWhatIsMeant limits a fault to one folder.
func TestFaultsHitOnlyWhatIsMeant(t *testing.T) {
	b := newBench(t)
	b.Set(Plan{Chance: map[Fault]float64{ServerError: 1}, Only: func(r Request) bool { return r.Op == Put && r.folder() == "log/chunks" }})
	for key, want := range map[string]int{testKey: http.StatusInternalServerError, "log/floor.json": http.StatusOK} {
		if status, _, err := b.send(t.Context(), http.MethodPut, key, "value"); status != want || err != nil {
			t.Errorf("%s is answered with %d, want %d: %v", key, status, want, err)
		}
	}
}

// TestCountsKnowKeysAndWhatRunsAtOnce holds two PUTs of one folder and sends a third.
func TestCountsKnowKeysAndWhatRunsAtOnce(t *testing.T) {
	b := newBench(t)
	b.Set(Plan{Chance: map[Fault]float64{HoldAnswer: 1}})
	var sent sync.WaitGroup
	for range 2 {
		sent.Go(func() { _, _, _ = b.send(t.Context(), http.MethodPut, testKey, "value") })
	}
	for range 2 {
		<-b.origin.heard
	}
	b.Set(Plan{})
	sent.Wait()
	_, _, _ = b.send(t.Context(), http.MethodPut, "log/floor.json", "value")
	got := b.Stats()
	if got.Puts[testKey] != 2 || got.Puts["log/floor.json"] != 1 || got.MostAtOnce["log/chunks"] != 2 || got.MostAtOnce["log"] != 1 {
		t.Errorf("counts are %v, at once %v", got.Puts, got.MostAtOnce)
	}
	if got.Requests[Put] != 3 || got.BodyBytes != 15 || got.Faulted() != 2 {
		t.Errorf("counts are %+v", got)
	}
	b.Reset()
	if b.Stats().Total() != 0 {
		t.Error("counts are left after a reset")
	}
}

// TestConditionsAreForgotten puts an object twice.
func TestConditionsAreForgotten(t *testing.T) {
	b := newBench(t)
	b.Set(Plan{IgnoreConditions: true})
	for range 2 {
		if status, _, err := b.send(t.Context(), http.MethodPut, testKey, "value"); status != http.StatusOK {
			t.Errorf("answered with %d, %v", status, err)
		}
	}
}

func TestRequestsAreTold(t *testing.T) {
	for text, want := range map[string]Request{
		"PUT /b/p/chunks/1":                      {Put, "p/chunks/1"},
		"GET /b/p/chunks/1":                      {Get, "p/chunks/1"},
		"HEAD /b/p/chunks/1":                     {Head, "p/chunks/1"},
		"GET /b?list-type=2&prefix=p":            {List, ""},
		"GET /b/?list-type=2&prefix=p":           {List, ""},
		"DELETE /b/p/x":                          {Delete, "p/x"},
		"POST /b/?delete=":                       {Delete, ""},
		"POST /b/p/snap?uploads=":                {Multipart, "p/snap"},
		"PUT /b/p/snap?partNumber=1&uploadId=22": {Multipart, "p/snap"},
		"PUT /b":                                 {Other, ""},
	} {
		method, target, _ := strings.Cut(text, " ")
		if got := classify(httptest.NewRequest(method, target, nil)); got != want {
			t.Errorf("%s is %+v, want %+v", text, got, want)
		}
	}
}
