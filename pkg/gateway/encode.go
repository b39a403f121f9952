package gateway

import (
	"encoding/base64"
	"encoding/json"
	"strconv"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Answers are appended to a buffer by hand: they have few shapes, and large ones
// are nearly all base64.

// appendInt writes an integer as a number where every reader of JSON keeps it, and
// as a string beyond.
func appendInt(b []byte, n int64) []byte {
	if n >= -maxExact && n <= maxExact {
		return strconv.AppendInt(b, n, 10)
	}
	b = append(b, '"')
	b = strconv.AppendInt(b, n, 10)
	return append(b, '"')
}

func appendBase64(b, data []byte) []byte {
	b = append(b, '"')
	b = base64.StdEncoding.AppendEncode(b, data)
	return append(b, '"')
}

// appendText writes any string.
func appendText(b []byte, s string) []byte {
	quoted, err := json.Marshal(s)
	if err != nil {
		return append(b, `""`...)
	}
	return append(b, quoted...)
}

// appendHeader writes the header, without a comma.
func appendHeader(b []byte, revision int64) []byte {
	b = append(b, `"header":{"revision":`...)
	b = appendInt(b, revision)
	return append(b, '}')
}

// appendLease writes a lease's field with a comma before it, or nothing for none.
func appendLease(b []byte, id int64) []byte {
	if id == 0 {
		return b
	}
	b = append(b, `,"lease":"`...)
	b = append(b, formatLease(id)...)
	return append(b, '"')
}

// appendKV writes a key with value and revision.
func appendKV(b []byte, kv *mvccpb.KeyValue) []byte {
	b = append(b, `{"key":`...)
	b = appendBase64(b, kv.Key)
	b = append(b, `,"value":`...)
	b = appendBase64(b, kv.Value)
	b = append(b, `,"mod_revision":`...)
	b = appendInt(b, kv.ModRevision)
	b = appendLease(b, kv.Lease)
	return append(b, '}')
}

// appendKVs writes a list; with keysOnly nothing but keys.
func appendKVs(b []byte, kvs []*mvccpb.KeyValue, keysOnly bool) []byte {
	b = append(b, '[')
	for i, kv := range kvs {
		if i > 0 {
			b = append(b, ',')
		}
		if keysOnly {
			b = append(b, `{"key":`...)
			b = appendBase64(b, kv.Key)
			b = append(b, '}')
			continue
		}
		b = appendKV(b, kv)
	}
	return append(b, ']')
}

// appendEvent writes an event. A deletion has an empty value, for clients that
// decode the value of every event.
func appendEvent(b []byte, e *mvccpb.Event) []byte {
	b = append(b, `{"type":"`...)
	b = append(b, e.Type.String()...)
	b = append(b, `","kv":`...)
	b = appendKV(b, e.Kv)
	if e.PrevKv != nil {
		b = append(b, `,"prev_kv":`...)
		b = appendKV(b, e.PrevKv)
	}
	return append(b, '}')
}
