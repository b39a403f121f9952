package object

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// Op names a method of Store, for hooks and metrics.
type Op string

// The methods of Store.
const (
	OpGet    Op = "get"
	OpList   Op = "list"
	OpPut    Op = "put"
	OpUpload Op = "upload"
	OpDelete Op = "delete"
)

// Memory is a Store for tests. It forgets everything with the process. The fields may be set before it is used first;
// hooks are called without any lock, may block, and may be called concurrently. A List calls them with its prefix as
// key, a Delete once for each key.
type Memory struct {
	// Before is called before an operation looks at anything; its error is returned, and the operation not done.
	Before func(op Op, key string) error
	// After is called when an operation took effect; its error is returned instead of the answer, which is lost.
	After func(op Op, key string) error
	// Now gives the time of Info.Modified; nil means time.Now.
	Now func() time.Time

	mu      sync.Mutex
	objects map[string]memoryObject
}

// memoryObject is never changed once it is in the map.
type memoryObject struct {
	body []byte
	info Info
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{objects: make(map[string]memoryObject)}
}

// Get implements Store.
func (m *Memory) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, Info, error) {
	if err := m.before(ctx, OpGet, key); err != nil {
		return nil, Info{}, err
	}
	m.mu.Lock()
	o, ok := m.objects[key]
	m.mu.Unlock()
	if !ok {
		return nil, Info{}, fmt.Errorf("get object %s: %w", key, ErrNotFound)
	}
	end, err := rangeEnd(offset, length, o.info.Size)
	if err != nil {
		return nil, Info{}, fmt.Errorf("get object %s: %w", key, err)
	}
	if err := m.after(OpGet, key); err != nil {
		return nil, Info{}, err
	}
	body := io.NopCloser(bytes.NewReader(o.body[offset:end]))
	return &bodyReader{ctx: ctx, key: key, r: body, left: end - offset, classify: fileError}, o.info, nil
}

// rangeEnd returns where a Get of length bytes from offset on ends in an object of size bytes.
func rangeEnd(offset, length, size int64) (int64, error) {
	if offset < 0 || offset > size {
		return 0, fmt.Errorf("%w: %d of %d bytes", ErrOffset, offset, size)
	}
	if length < 0 || length > size-offset {
		return size, nil
	}
	return offset + length, nil
}

// List implements Store. It lists what is there when it begins.
func (m *Memory) List(ctx context.Context, prefix, after string, fn func(Info) error) error {
	if err := m.hook(ctx, m.Before, OpList, prefix); err != nil {
		return err
	}
	m.mu.Lock()
	var infos []Info
	for key, o := range m.objects {
		if strings.HasPrefix(key, prefix) && key > after {
			info := o.info
			info.Version = ""
			infos = append(infos, info)
		}
	}
	m.mu.Unlock()
	slices.SortFunc(infos, func(a, b Info) int { return strings.Compare(a.Key, b.Key) })
	if err := m.after(OpList, prefix); err != nil {
		return err
	}
	for _, info := range infos {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("list objects: %w", err)
		}
		if err := fn(info); err != nil {
			return err
		}
	}
	return nil
}

// Put implements Store.
func (m *Memory) Put(ctx context.Context, key string, body []byte, cond Condition) (string, error) {
	if err := cond.check(); err != nil {
		return "", fmt.Errorf("put object %s: %w", key, err)
	}
	if err := m.before(ctx, OpPut, key); err != nil {
		return "", err
	}
	info, err := m.write(key, bytes.Clone(body), cond)
	if err != nil {
		return "", fmt.Errorf("put object %s: %w", key, err)
	}
	return info.Version, m.after(OpPut, key)
}

// write stores body, which belongs to the store from now on, if cond holds.
func (m *Memory) write(key string, body []byte, cond Condition) (Info, error) {
	now := time.Now
	if m.Now != nil {
		now = m.Now
	}
	info := Info{Key: key, Size: int64(len(body)), Modified: now(), Version: contentVersion(body)}
	m.mu.Lock()
	defer m.mu.Unlock()
	old, ok := m.objects[key]
	if cond.IfAbsent && ok {
		return Info{}, ErrPrecondition
	}
	if cond.IfVersion != "" && old.info.Version != cond.IfVersion {
		return Info{}, ErrPrecondition
	}
	m.objects[key] = memoryObject{body: body, info: info}
	return info, nil
}

// contentVersion names a content, as an ETag does: equal for equal content.
func contentVersion(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:16])
}

// Upload implements Store. It holds the whole object in memory, being kept there.
func (m *Memory) Upload(ctx context.Context, key string, r io.Reader) (Info, error) {
	if err := m.before(ctx, OpUpload, key); err != nil {
		return Info{}, err
	}
	body, err := io.ReadAll(&sourceReader{ctx: ctx, r: r})
	if err != nil {
		return Info{}, fmt.Errorf("upload object %s: %w", key, err)
	}
	info, err := m.write(key, body, Condition{})
	if err != nil {
		return Info{}, fmt.Errorf("upload object %s: %w", key, err)
	}
	if err := m.after(OpUpload, key); err != nil {
		return Info{}, err
	}
	return info, nil
}

// Delete implements Store.
func (m *Memory) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := m.before(ctx, OpDelete, key); err != nil {
			return err
		}
		m.mu.Lock()
		delete(m.objects, key)
		m.mu.Unlock()
		if err := m.after(OpDelete, key); err != nil {
			return err
		}
	}
	return nil
}

// before checks the key and runs the hook of an operation.
func (m *Memory) before(ctx context.Context, op Op, key string) error {
	if err := begin(ctx, op, key); err != nil {
		return err
	}
	return m.hook(ctx, m.Before, op, key)
}

func (m *Memory) hook(ctx context.Context, hook func(Op, string) error, op Op, key string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s object %s: %w", op, key, err)
	}
	if hook == nil {
		return nil
	}
	if err := hook(op, key); err != nil {
		return fmt.Errorf("%s object %s: %w", op, key, err)
	}
	return nil
}

// after runs the hook of an operation that is done, whatever its context says.
func (m *Memory) after(op Op, key string) error {
	return m.hook(context.Background(), m.After, op, key)
}
