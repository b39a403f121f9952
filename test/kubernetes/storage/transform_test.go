package storage

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/etcd3"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
	"k8s.io/apiserver/pkg/storage/value"
)

var errInjected = errors.New("injected error")

// exchangeable is a transformer that can be replaced while a store uses it.
type exchangeable struct{ current atomic.Value }

type boxed struct{ value.Transformer }

func newExchangeable(tr value.Transformer) *exchangeable {
	e := &exchangeable{}
	e.current.Store(boxed{tr})
	return e
}

func (e *exchangeable) get() value.Transformer { return e.current.Load().(boxed).Transformer }

// exchange puts another transformer in place and returns the way back.
func (e *exchangeable) exchange(tr value.Transformer) func() {
	before := e.get()
	e.current.Store(boxed{tr})
	return func() { e.current.Store(boxed{before}) }
}

func (e *exchangeable) TransformFromStorage(ctx context.Context, data []byte, dc value.Context) ([]byte, bool, error) {
	return e.get().TransformFromStorage(ctx, data, dc)
}

func (e *exchangeable) TransformToStorage(ctx context.Context, data []byte, dc value.Context) ([]byte, error) {
	return e.get().TransformToStorage(ctx, data, dc)
}

// transformable is a store whose transformer the tests replace.
type transformable struct {
	storage.Interface
	transformer *exchangeable
	original    *storagetesting.PrefixTransformer
}

var (
	_ storagetesting.InterfaceWithPrefixTransformer   = transformable{}
	_ storagetesting.InterfaceWithTransformerOverride = transformable{}
)

func (s transformable) UpdatePrefixTransformer(modify storagetesting.PrefixTransformerModifier) func() {
	changed := *s.original
	return s.transformer.exchange(modify(&changed))
}

func (s transformable) UpdateTransformer(modify storagetesting.TransformerModifier) func() {
	return s.transformer.exchange(modify(s.transformer.get()))
}

// brittleTransformer fails to read while told to.
type brittleTransformer struct {
	value.Transformer
	fail atomic.Bool
}

func (b *brittleTransformer) TransformFromStorage(ctx context.Context, data []byte, dc value.Context) ([]byte, bool, error) {
	if b.fail.Load() {
		return nil, false, errInjected
	}
	return b.Transformer.TransformFromStorage(ctx, data, dc)
}

// brittleCodec fails to decode while told to.
type brittleCodec struct {
	runtime.Codec
	fail atomic.Bool
}

func (b *brittleCodec) Decode(data []byte, defaults *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	if b.fail.Load() {
		return nil, nil, errInjected
	}
	return b.Codec.Decode(data, defaults, into)
}

// corruptObject returns the error with which the store marks an object that it
// cannot transform. Its type is known to k8s.io/apiserver alone.
func corruptObject(t *testing.T) error {
	t.Helper()
	broken := &brittleTransformer{}
	broken.fail.Store(true)
	_, _, err := etcd3.WithCorruptObjErrorHandlingTransformer(broken).TransformFromStorage(t.Context(), nil, value.DefaultContext{})
	if err == nil {
		t.Fatal("no error for a corrupt object")
	}
	return err
}
