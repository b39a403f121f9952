package apiserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// object is what the tests look at in a ConfigMap or an Event.
type object struct {
	Kind     string   `json:"kind,omitempty"`
	Version  string   `json:"apiVersion,omitempty"`
	Metadata metadata `json:"metadata"`

	Data     map[string]string `json:"data,omitempty"`
	Involved *involved         `json:"involvedObject,omitempty"`
	Reason   string            `json:"reason,omitempty"`
	Code     int               `json:"code,omitempty"` // of a Status
}

type metadata struct {
	Name            string `json:"name,omitempty"`
	Namespace       string `json:"namespace,omitempty"`
	ResourceVersion string `json:"resourceVersion,omitempty"`
}

type involved struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// list is a page of objects.
type list struct {
	Metadata struct {
		ResourceVersion    string `json:"resourceVersion"`
		Continue           string `json:"continue"`
		RemainingItemCount int    `json:"remainingItemCount"`
	} `json:"metadata"`
	Items []object `json:"items"`
}

// statusError is an answer of kube-apiserver other than success.
type statusError struct {
	Code int
	Body string
}

func (e *statusError) Error() string { return fmt.Sprintf("status %d: %s", e.Code, e.Body) }

// request sends a request with a JSON body. The caller closes the response.
func (c *cluster) request(ctx context.Context, method, path string, in any) (*http.Response, error) {
	resp, err := c.send(ctx, method, path, in)
	if err != nil && !errors.Is(context.Cause(ctx), context.Canceled) {
		c.failures.add(method, path, err)
	}
	return resp, err
}

func (c *cluster) send(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, body)
	if err != nil {
		return nil, fmt.Errorf("build request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", contentType(method))
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return nil, &statusError{Code: resp.StatusCode, Body: string(text)}
	}
	return resp, nil
}

func contentType(method string) string {
	if method == http.MethodPatch {
		return "application/merge-patch+json"
	}
	return "application/json"
}

// do sends a request and decodes the answer into out, when that is given.
func (c *cluster) do(ctx context.Context, method, path string, in, out any) error {
	resp, err := c.request(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	} else {
		err = json.NewDecoder(resp.Body).Decode(out)
	}
	if err != nil {
		return fmt.Errorf("read answer to %s %s: %w", method, path, err)
	}
	return nil
}

// resource is a kind of object that the tests write and watch.
type resource struct {
	path string
	make func(name string) object
}

const namespace = "default"

// configMaps are served from the watch cache, events are not: a watch on them
// is a watch on the store.
var (
	configMaps = resource{
		path: "/api/v1/namespaces/" + namespace + "/configmaps",
		make: func(name string) object {
			return object{Kind: "ConfigMap", Version: "v1", Metadata: metadata{Name: name}, Data: map[string]string{"value": name}}
		},
	}
	events = resource{
		path: "/api/v1/namespaces/" + namespace + "/events",
		make: func(name string) object {
			return object{
				Kind: "Event", Version: "v1", Metadata: metadata{Name: name}, Reason: "Test",
				Involved: &involved{Kind: "ConfigMap", Namespace: namespace, Name: name},
			}
		},
	}
)

// create creates an object of the resource and returns it as stored.
func (c *cluster) create(ctx context.Context, r resource, name string) (object, error) {
	var out object
	err := c.do(ctx, http.MethodPost, r.path, r.make(name), &out)
	return out, err
}

// patch sets the value of a config map and returns the object as stored.
func (c *cluster) patch(ctx context.Context, name, value string) (object, error) {
	var out object
	change := map[string]any{"data": map[string]string{"value": value}}
	err := c.do(ctx, http.MethodPatch, configMaps.path+"/"+name, change, &out)
	return out, err
}
