package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// Errors of every Store, matched with errors.Is. None of their texts holds credentials or key material.
var (
	// ErrNotFound says that there is no object under the key.
	ErrNotFound = errors.New("no such object")
	// ErrPrecondition says that the condition of a Put does not hold: this request wrote nothing. An earlier request for
	// the same key whose outcome stayed open may be the reason.
	ErrPrecondition = errors.New("condition does not hold")
	// ErrDenied says that the store refuses for good: credentials, permissions, no such bucket. The request changed nothing.
	ErrDenied = errors.New("refused by the object store")
	// ErrUnavailable says that the store did not answer, or asked to be tried again. Whether a write took effect is open,
	// unless the error is also ErrConflict.
	ErrUnavailable = errors.New("object store not available")
	// ErrConflict comes with ErrUnavailable: a write of the same key was under way, and this request wrote nothing.
	ErrConflict = errors.New("another write of the object was under way")
	// ErrUnconditional says that the store ignores or does not know conditions of writes, so kinsy cannot use it.
	ErrUnconditional = errors.New("object store does not honour conditional writes")
	// ErrBadKey says that a key breaks the rules of CheckKey, or that the store cannot hold it beside another one.
	ErrBadKey = errors.New("not a key of an object")
	// ErrBadCondition says that a Condition has both its fields set.
	ErrBadCondition = errors.New("a condition is either IfAbsent or IfVersion")
	// ErrOffset says that a Get begins below zero or beyond the end of the object.
	ErrOffset = errors.New("offset outside of the object")
	// ErrNotEncrypted says that an object read with a key file was not written with one.
	ErrNotEncrypted = errors.New("object is not encrypted")
	// ErrUnknownKey says that an object was encrypted with a key that the key file does not have.
	ErrUnknownKey = errors.New("key file does not have the key of the object")
	// ErrTampered says that an encrypted object was damaged, cut, put together anew or moved from another key.
	ErrTampered = errors.New("encrypted object does not authenticate")
)

// Store keeps objects under keys such as "chunks/00000000000000000042", relative to the prefix of the URL. Keys follow
// CheckKey. Every method may block on disk or network, may be called concurrently, and returns the context's error,
// wrapped, when the context ends first; a write may then have taken effect. What was written is seen by every later
// Get and List, of other processes too.
type Store interface {
	// Get opens length bytes of an object from offset on; length < 0 means to its end, 0 nothing (the Info alone), and
	// fewer come where the object ends before. An offset at the end of the object is fine, beyond it ErrOffset. Info
	// describes the whole object. The caller closes the reader. The context governs the reader too; what it returns may
	// end with ErrUnavailable, but never ends with io.EOF early. ErrNotFound.
	Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, Info, error)
	// List calls fn with every object whose key has the prefix and is greater than after ("": from the start), ascending
	// by the bytes of the key. An error of fn ends it and is returned as it is. Objects written or deleted meanwhile may
	// be listed or not. Info.Version is empty.
	List(ctx context.Context, prefix, after string, fn func(Info) error) error
	// Put writes an object if cond holds: all or nothing, durable on return. It is one attempt, never repeated behind the
	// caller's back. ErrPrecondition, ErrDenied and ErrConflict: this request wrote nothing. Every other error leaves open
	// whether it took effect, or still will. body must not be changed any more. The version is not empty when err is nil.
	Put(ctx context.Context, key string, body []byte, cond Condition) (version string, err error)
	// Upload writes an object from a stream of unknown length, in bounded memory, unconditionally: all or nothing, durable
	// on return. An error of r ends it and is wrapped in what is returned.
	Upload(ctx context.Context, key string, r io.Reader) (Info, error)
	// Delete removes objects, durably; absent ones are not an error. After an error some may be gone.
	Delete(ctx context.Context, keys ...string) error
}

// Info describes an object.
type Info struct {
	// Key is relative to the prefix of the store.
	Key string
	// Size is in bytes; of an encrypted object that of its plain content.
	Size int64
	// Modified is when it was written by the store's clock, to the second on S3; zero if unknown.
	Modified time.Time
	// Version names this content, for Condition.IfVersion: opaque, equal for equal content in some stores. Empty in a List.
	Version string
}

// Condition says when a Put may write. The zero value is no condition.
type Condition struct {
	// IfAbsent: there is no object under the key.
	IfAbsent bool
	// IfVersion: the object has this version. There is no condition "has any version".
	IfVersion string
}

// check refuses a condition that contradicts itself.
func (c Condition) check() error {
	if c.IfAbsent && c.IfVersion != "" {
		return ErrBadCondition
	}
	return nil
}

// MaxKeyLen is the length of the longest key in bytes. S3 allows 1024 with the prefix of the URL.
const MaxKeyLen = 512

// maxElementLen is the length of the longest element of a key: file systems allow 255 bytes.
const maxElementLen = 255

// CheckKey returns ErrBadKey, wrapped with the reason, unless key is one or more elements separated by "/", none of which
// is empty, begins with a dot, is longer than 255 bytes or holds control characters; it is valid UTF-8 and at most
// MaxKeyLen bytes.
func CheckKey(key string) error {
	if len(key) > MaxKeyLen {
		return fmt.Errorf("%w: longer than %d bytes", ErrBadKey, MaxKeyLen)
	}
	if reason := badName(key); reason != "" {
		return fmt.Errorf("%w: %q %s", ErrBadKey, key, reason)
	}
	for element := range strings.SplitSeq(key, "/") {
		if strings.HasPrefix(element, ".") {
			return fmt.Errorf("%w: %q has an element that begins with a dot", ErrBadKey, key)
		}
	}
	return nil
}

// badName says what is wrong with a name of elements separated by "/", "" if nothing is.
func badName(name string) string {
	if !utf8.ValidString(name) {
		return "is not valid UTF-8"
	}
	if strings.ContainsFunc(name, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '\\' }) {
		return "holds a control character or a backslash"
	}
	for element := range strings.SplitSeq(name, "/") {
		switch {
		case element == "":
			return "has an empty element"
		case element == "." || element == "..":
			return "has an element . or .."
		case len(element) > maxElementLen:
			return "has an element that is too long"
		}
	}
	return ""
}

// Close releases what a Store made by Open holds, such as idle connections. It must not be in use. Stores without anything
// to release are fine.
func Close(s Store) error {
	if c, ok := s.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// ReadAll gets a whole object of at most limit bytes; a larger one is an error.
func ReadAll(ctx context.Context, s Store, key string, limit int64) ([]byte, Info, error) {
	r, info, err := s.Get(ctx, key, 0, -1)
	if err != nil {
		return nil, Info{}, err
	}
	defer r.Close()
	if info.Size > limit {
		return nil, info, fmt.Errorf("object %s has %d bytes, more than %d", key, info.Size, limit)
	}
	body := make([]byte, info.Size)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, info, fmt.Errorf("read object %s: %w", key, err)
	}
	// The end is read too: stores verify checksums there.
	if n, err := io.Copy(io.Discard, r); err != nil {
		return nil, info, fmt.Errorf("read object %s: %w", key, err)
	} else if n > 0 {
		return nil, info, fmt.Errorf("object %s has more than its %d bytes", key, info.Size)
	}
	return body, info, nil
}
