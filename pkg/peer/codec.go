package peer

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// encoded is a message that was encoded before, for more than one stream.
type encoded []byte

// pooled is a message that was encoded before, for one stream, in memory of pool.
type pooled *[]byte

var pool = mem.DefaultBufferPool()

// codec is gRPC's own for protobuf, which also sends what is encoded already.
type codec struct{}

var _ encoding.CodecV2 = codec{}

var protobuf = encoding.GetCodecV2(proto.Name)

// Marshal encodes a message.
func (codec) Marshal(v any) (mem.BufferSlice, error) {
	switch v := v.(type) {
	case encoded:
		return mem.BufferSlice{mem.SliceBuffer(v)}, nil
	case pooled:
		return mem.BufferSlice{mem.NewBuffer(v, pool)}, nil // back to the pool when it was sent
	}
	return protobuf.Marshal(v)
}

// Unmarshal decodes a message.
func (codec) Unmarshal(data mem.BufferSlice, v any) error { return protobuf.Unmarshal(data, v) }

// Name is gRPC's name of the codec.
func (codec) Name() string { return proto.Name }
