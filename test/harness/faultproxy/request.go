package faultproxy

import (
	"net/http"
	"path"
	"strings"
)

// Op is what a request does, as far as the proxy cares.
type Op string

// Operations.
const (
	Put       Op = "put"
	Get       Op = "get"
	Head      Op = "head"
	List      Op = "list"
	Delete    Op = "delete"
	Multipart Op = "multipart" // create, upload a part, complete, abort
	Other     Op = "other"
)

// Request is a request to the store.
type Request struct {
	Op  Op
	Key string // of the object, without the bucket; "" where there is none, as for List and the deletion of several objects
}

// folder is the part of the key before the object's own name.
func (r Request) folder() string { return path.Dir(r.Key) }

func classify(r *http.Request) Request {
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	query := r.URL.Query()
	req := Request{Op: Other, Key: key}
	switch {
	case query.Has("uploads") || query.Has("uploadId"):
		req.Op = Multipart
	case r.Method == http.MethodPut && key != "":
		req.Op = Put
	case r.Method == http.MethodHead && key != "":
		req.Op = Head
	case r.Method == http.MethodGet && key != "":
		req.Op = Get
	case r.Method == http.MethodGet && len(query) > 0:
		req.Op = List
	case r.Method == http.MethodDelete || r.Method == http.MethodPost && query.Has("delete"):
		req.Op = Delete
	}
	return req
}
