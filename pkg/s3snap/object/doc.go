// Package object keeps objects under keys: in S3, in a folder, or in memory for
// tests. All of kinsy's use of object storage goes through its Store.
//
// # What a store must do
//
// Chunks are created at positions that exactly one writer may own, and files
// such as floor.json are changed by compare-and-swap. So a Put with a condition
// is atomic, among any number of processes, and what one process wrote the next
// read of any other one sees. Probe proves this when a node starts; a store that
// fails is refused with ErrUnconditional, never used without conditions.
//
// Put is one attempt. An error other than ErrPrecondition, ErrDenied and
// ErrConflict leaves open whether the object was written, or still will be: the
// caller reads it back. Everything else may be repeated by the store itself.
//
//	ErrNotFound       Get: the store says that there is no such object
//	ErrPrecondition   Put: the condition does not hold, nothing written
//	ErrDenied         refused for good, nothing changed
//	ErrUnavailable    no answer, or one that asks to come again: outcome open
//	ErrConflict       with ErrUnavailable: Put wrote nothing
//	ErrUnconditional  the store does not know conditions
//	context's errors  the caller's context ended: outcome open
//	none of these     an answer that was not expected: outcome open
//
// # S3
//
// Any server with conditional writes will do: If-None-Match and If-Match on
// PutObject, strong consistency, ListObjectsV2 in order of the keys (not
// Amazon's directory buckets). The credentials need GetObject, PutObject,
// DeleteObject, AbortMultipartUpload, and ListBucket: without the last a missing
// object looks forbidden.
//
//	200                               done
//	404 NoSuchKey                     ErrNotFound; for a Put with If-Match
//	                                  ErrPrecondition
//	404 of another code, or of none   ErrUnavailable: a proxy may have said it,
//	                                  and "no such chunk" ends the chain
//	412                               ErrPrecondition
//	409 ConditionalRequestConflict    ErrUnavailable and ErrConflict
//	501 to a Put with a condition     ErrUnconditional
//	401, 403, 301, 308, NoSuchBucket,
//	wrong region, storage class, key  ErrDenied
//	429, 5xx, expired tokens,
//	connection broken, time-out       ErrUnavailable
//
// Bodies are sent with a CRC-32C in a header and a signed SHA-256. What is read
// is compared with the checksum that the server keeps, if it keeps one and the
// whole object is read; a body that ends early is an error in any case. Deletes
// of several objects carry a Content-MD5, which all servers know. No request
// waits for "100 Continue", and no redirect is followed.
//
// Upload sends parts of 8 MiB, four in memory, three of them under way. Parts
// that a killed process leaves are invisible but paid for: a lifecycle rule that
// aborts incomplete uploads after a day removes them. The bucket must not have
// other lifecycle rules on the prefix.
//
// Server-side encryption with keys of the customer (SSE-C) is not offered: a key
// file does the same without showing the server the key.
//
// # Folder
//
// The object of key "chunks/7" of file:///dir is the file /dir/chunks/7. Names
// that begin with a dot are no objects:
//
//	.tmp/    what is being written; a day after its last write it is removed
//	         when the folder is opened
//	.lock    held exclusively (flock) while a version is compared and the object
//	         replaced, shared while any other change is made
//
// A write goes to a temporary file, which is fsynced, then linked to its name
// (IfAbsent) or renamed to it, and the folder is fsynced. The version of an
// object up to 1 MiB is the hash of its content, that of a larger one its time
// of modification and size; that time has a random part. Where objects lie below
// "a/", there can be none of key "a", and folders stay when their objects go. A
// shared mount must support flock, link and rename between its clients.
//
// The folder may be on the disk of the log. An Upload fsyncs each MiB, so that no
// fsync of the log waits for many of them; a Delete moves a file above 8 MiB to
// .tmp and takes its space away in steps, unless the file has another name too.
//
// # Encryption
//
// With a key file every body is encrypted before it is sent, and versions,
// ranges and sizes are given as if it were not. Keys of objects stay readable.
// All numbers are big-endian.
//
//	offset  size  content
//	0       8     "KINSYENC"
//	8       1     version of the format, 1
//	9       1     length of the key id, 1 to 32
//	10      6     zero
//	16      32    key id, letters, digits, ".", "_", "-", filled with zero bytes
//	48      32    salt, random
//	80            segments: 65,536 bytes of plain content each but the last, which
//	              has the rest (0 to 65,536 bytes; 0 only if the object is empty),
//	              each followed by its tag of 16 bytes
//
// A segment is AES-256-GCM with
//
//	key         HKDF-SHA256 of the 32 bytes named by the key id, with the salt,
//	            and as info "kinsy object encryption", a zero byte, and bytes 0 to
//	            47 of the header
//	nonce       12 bytes: 1 if it is the last segment else 0, three zero bytes,
//	            the number of the segment from 0 in eight bytes
//	additional  the key of the object, relative to the prefix
//
// So a segment that was changed, left out, repeated, moved within the object or
// to another one, and an object that was cut or continued, do not authenticate:
// ErrTampered. Whoever can write to the bucket can still put an older content of
// the same key back; the chain's own checks are there for that. The salt makes
// each object's key its own, so that nonces may count from 0. An object copied
// to the same key under another prefix can be read there.
//
// The size of an object follows from the number of its bytes: sealed = 80 +
// plain + 16 for each segment. It is authenticated by reading the last segment.
//
// A key file has a line for each key, "ID BASE64" of 32 random bytes, for
// instance from `echo "$(date +%Y-%m) $(head -c 32 /dev/urandom | base64)"`.
// Lines that begin with "#" are comments. The first key encrypts, all decrypt:
// to change keys put a new line first on every node, and remove the old one when
// retention has removed the last object that names it.
package object
