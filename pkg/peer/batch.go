package peer

import "google.golang.org/protobuf/encoding/protowire"

// batchBytes and batchCalls are where a batch of calls or answers ends.
const (
	batchBytes = 1 << 20
	batchCalls = 1024
)

// member is a call or an answer, encoded without its id on the goroutine of its caller
// or worker.
type member struct {
	id   uint64
	body []byte
}

const (
	idField     = 1 // of a Call and of a CallAnswer
	memberField = 1 // of a CallBatch and of an AnswerBatch
)

func (m member) size() int {
	return len(m.body) + protowire.SizeTag(idField) + protowire.SizeVarint(m.id)
}

// fits is how many of the members go into the next batch; at least one does.
func fits(members []member) int {
	size := 0
	for i, m := range members {
		if size += m.size(); i > 0 && size > batchBytes || i == batchCalls {
			return i
		}
	}
	return len(members)
}

// encodeBatch makes a CallBatch or an AnswerBatch, which are alike.
func encodeBatch(members []member) pooled {
	size := 0
	for _, m := range members {
		size += protowire.SizeTag(memberField) + protowire.SizeBytes(m.size())
	}
	buffer := pool.Get(size)
	b := (*buffer)[:0]
	for _, m := range members {
		b = protowire.AppendTag(b, memberField, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(m.size()))
		b = protowire.AppendTag(b, idField, protowire.VarintType)
		b = protowire.AppendVarint(b, m.id)
		b = append(b, m.body...)
	}
	*buffer = b
	return buffer
}
