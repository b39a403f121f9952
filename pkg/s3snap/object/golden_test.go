package object_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"testing"
)

// golden is an object with goldenBody, encrypted under the key "chunks/1" with keyA by version 1 of the envelope.
const (
	goldenBody = "written by version 1 of the envelope"
	golden     = "4b494e5359454e430106000000000000323032362d610000000000000000000000000000000000000000000000000000" +
		"acf0e1e025a1cc457e30bea9ba946b8a3836c95c08e95d7c5c4c1d23b73812893ad5dc4435a7dc61e6c839958e2183b2" +
		"6e793d4cabf322598ef6dda74d7ebe401a77919cebd94b7f92ef242c3b433c4e616fa0b0"
)

func TestOldEnvelopeIsRead(t *testing.T) {
	raw, err := hex.DecodeString(golden)
	if err != nil {
		t.Fatal(err)
	}
	got, err := readRaw(t, keyA, "chunks/1", raw, 0, -1)
	if err != nil || string(got) != goldenBody {
		t.Fatalf("got %q, %v", got, err)
	}
}

// TestEnvelopeIsAsDocumented decrypts by what the package documentation says and nothing else.
func TestEnvelopeIsAsDocumented(t *testing.T) {
	raw, err := hex.DecodeString(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(raw[:48], []byte("KINSYENC\x01\x06\x00\x00\x00\x00\x00\x002026-a"+string(make([]byte, 26)))) {
		t.Fatalf("header %q", raw[:48])
	}
	secret := []byte("01234567890123456789012345678901")
	key, err := hkdf.Key(sha256.New, secret, raw[48:80], "kinsy object encryption\x00"+string(raw[:48]), 32)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	nonce := []byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0} // the last segment, and number 0
	got, err := aead.Open(nil, nonce, raw[80:], []byte("chunks/1"))
	if err != nil || string(got) != goldenBody {
		t.Fatalf("got %q, %v", got, err)
	}
}
