package object

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
)

// The envelope of an encrypted object, see the package documentation.
const (
	envelopeMagic   = "KINSYENC"
	envelopeVersion = 1
	saltSize        = 32
	saltOffset      = 16 + maxKeyIDLen
	headerSize      = saltOffset + saltSize
	segmentSize     = 64 << 10 // of plain content
	tagSize         = 16
	sealedSegment   = segmentSize + tagSize
)

// IsEncrypted says whether an object that begins with these bytes, eight are enough, is encrypted: for readers without a
// key file, to say what they met.
func IsEncrypted(beginning []byte) bool { return bytes.HasPrefix(beginning, []byte(envelopeMagic)) }

// sealedSize is the size of an object with this much plain content.
func sealedSize(plain int64) int64 {
	return headerSize + plain + tagSize*max(1, (plain+segmentSize-1)/segmentSize)
}

// plainSize is the size of the plain content of an object, ok only if there can be an object of this size.
func plainSize(sealed int64) (plain int64, ok bool) {
	body := sealed - headerSize
	if body < tagSize {
		return 0, false
	}
	segments := (body + sealedSegment - 1) / sealedSegment
	last := body - (segments-1)*sealedSegment
	if last < tagSize || last == tagSize && segments > 1 {
		return 0, false
	}
	return body - segments*tagSize, true
}

// newHeader makes the header of a new object.
func newHeader(id string) []byte {
	h := make([]byte, headerSize)
	copy(h, envelopeMagic)
	h[8] = envelopeVersion
	h[9] = byte(len(id))
	copy(h[16:], id)
	_, _ = rand.Read(h[saltOffset:]) // never returns an error
	return h
}

// keyIDOf checks a header and returns the id of its key.
func keyIDOf(h []byte) (string, error) {
	if !IsEncrypted(h) || len(h) < headerSize {
		return "", ErrNotEncrypted
	}
	if h[8] != envelopeVersion {
		return "", fmt.Errorf("%w: its envelope has version %d, this program knows %d", ErrTampered, h[8], envelopeVersion)
	}
	n := int(h[9])
	if n < 1 || n > maxKeyIDLen || !keyIDPattern.Match(h[16:16+n]) || !allZero(h[10:16]) || !allZero(h[16+n:saltOffset]) {
		return "", fmt.Errorf("%w: its header is not one", ErrTampered)
	}
	return string(h[16 : 16+n]), nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// sealer encrypts and decrypts the segments of one object.
type sealer struct {
	aead cipher.AEAD
	name []byte // key of the object in the store
}

// sealer derives the key of an object from its header.
func (k *KeyRing) sealer(name string, header []byte) (*sealer, error) {
	id, err := keyIDOf(header)
	if err != nil {
		return nil, err
	}
	secret, ok := k.keys[id]
	if !ok {
		return nil, fmt.Errorf("%w, %q", ErrUnknownKey, id)
	}
	info := "kinsy object encryption\x00" + string(header[:saltOffset])
	key, err := hkdf.Key(sha256.New, secret[:], header[saltOffset:headerSize], info, keySize)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	return &sealer{aead: aead, name: []byte(name)}, nil
}

// nonce is that of a segment: no two segments of an object share one, and no two objects a key.
func nonce(segment int64, last bool) []byte {
	n := make([]byte, 12)
	if last {
		n[0] = 1
	}
	binary.BigEndian.PutUint64(n[4:], uint64(segment))
	return n
}

// seal appends an encrypted segment to dst.
func (s *sealer) seal(dst, plain []byte, segment int64, last bool) []byte {
	return s.aead.Seal(dst, nonce(segment, last), plain, s.name)
}

// open decrypts a segment in place.
func (s *sealer) open(sealed []byte, segment int64, last bool) ([]byte, error) {
	plain, err := s.aead.Open(sealed[:0], nonce(segment, last), sealed, s.name)
	if err != nil {
		return nil, fmt.Errorf("%w: segment %d is damaged, moved, or of a key of the same id", ErrTampered, segment)
	}
	return plain, nil
}

// sealingReader encrypts a stream: the header, then the segments.
type sealingReader struct {
	sealer  *sealer
	r       io.Reader
	out     []byte // what is ready to be read
	plain   []byte // what was read of r and is not encrypted yet: one byte more than a segment, to know which is the last
	sealed  []byte // memory for out
	segment int64
	err     error // io.EOF after the last segment
}

func newSealingReader(s *sealer, header []byte, r io.Reader) *sealingReader {
	return &sealingReader{sealer: s, r: r, out: header, plain: make([]byte, 0, segmentSize+1), sealed: make([]byte, 0, sealedSegment)}
}

// Read implements io.Reader.
func (s *sealingReader) Read(p []byte) (int, error) {
	if len(s.out) == 0 && s.err == nil {
		s.next()
	}
	if len(s.out) == 0 {
		return 0, s.err
	}
	n := copy(p, s.out)
	s.out = s.out[n:]
	return n, nil
}

// next encrypts the next segment.
func (s *sealingReader) next() {
	n, err := io.ReadFull(s.r, s.plain[len(s.plain):cap(s.plain)])
	s.plain = s.plain[:len(s.plain)+n]
	last := err == io.EOF || err == io.ErrUnexpectedEOF
	if err != nil && !last {
		s.err = err
		return
	}
	size := len(s.plain)
	if last {
		s.err = io.EOF
	} else {
		size = segmentSize
	}
	s.out = s.sealer.seal(s.sealed[:0], s.plain[:size], s.segment, last)
	s.segment++
	s.plain = s.plain[:copy(s.plain, s.plain[size:])]
}

// openingReader decrypts a run of segments, skips bytes at its start, and ends after others.
type openingReader struct {
	io.Closer
	sealer  *sealer
	name    string
	r       io.Reader // at the start of segment
	segment int64
	last    int64 // number of the object's last segment
	tail    int   // encrypted size of the last one
	skip    int64
	left    int64
	buffer  []byte
	out     []byte
}

// Read implements io.Reader.
func (o *openingReader) Read(p []byte) (int, error) {
	for len(o.out) == 0 {
		if o.left == 0 {
			return 0, io.EOF
		}
		if err := o.next(); err != nil {
			return 0, fmt.Errorf("read object %s: %w", o.name, err)
		}
	}
	n := copy(p, o.out)
	o.out = o.out[n:]
	return n, nil
}

// next decrypts the next segment.
func (o *openingReader) next() error {
	if o.buffer == nil {
		o.buffer = make([]byte, sealedSegment)
	}
	sealed := o.buffer
	if o.segment == o.last {
		sealed = sealed[:o.tail]
	}
	if _, err := io.ReadFull(o.r, sealed); err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: it ends early", ErrTampered)
	} else if err != nil {
		return err
	}
	plain, err := o.sealer.open(sealed, o.segment, o.segment == o.last)
	if err != nil {
		return err
	}
	o.segment++
	plain = plain[o.skip:]
	o.skip = 0
	plain = plain[:min(int64(len(plain)), o.left)]
	o.left -= int64(len(plain))
	o.out = plain
	return nil
}

// EncryptionKeyID names the key of an encrypted object, given its beginning of 80 bytes or more; no key file is needed.
// ErrNotEncrypted, or ErrTampered if the beginning is damaged.
func EncryptionKeyID(beginning []byte) (string, error) {
	if len(beginning) > headerSize {
		beginning = beginning[:headerSize]
	}
	return keyIDOf(beginning)
}
