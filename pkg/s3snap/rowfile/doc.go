// Package rowfile is the format of chunks and snapshots: rows of the log in one
// immutable file, each row and the whole file with a checksum.
//
// # Format
//
// A file is a header, blocks, and a trailer. Numbers are big endian; "varint" is
// that of encoding/binary, signed (zigzag) unless said otherwise. CRC is CRC-32C
// (Castagnoli). Zero is no version, no kind, no type of block and no kind of row.
//
//	header, 108 bytes
//	  0    8  "kinsyrow"
//	  8    1  format version: 1
//	  9    1  kind: 1 chunk, 2 snapshot
//	 10    2  zero
//	 12    4  CRC of bytes 0 to 11; the first 16 bytes are the same in every version
//	 16    8  cluster id
//	 24    8  node id of the writer
//	 32    8  incarnation of the writer: random, one per process
//	 40    8  first id covered; 1 for a snapshot
//	 48    8  epoch of the row before it; 0 if there is none
//	 56    8  head: id of the last row covered
//	 64    8  head: its epoch
//	 72    8  head: its revision
//	 80    8  compacted revision; 0 in a chunk
//	 88    8  number of keys deleted at that revision; 0 in a chunk
//	 96    8  when it was written, in ms since the Unix epoch
//	104    4  CRC of bytes 0 to 103
//
//	block
//	  0    1  type: 1 rows, 2 deleted keys
//	  1    3  zero
//	  4    4  number of entries, at least 1
//	  8    4  length before compression
//	 12    4  length after it, n
//	 16    4  CRC of the compressed bytes
//	 20    4  CRC of bytes 0 to 19
//	 24    n  one zstd frame, window at most 256 KiB
//
//	trailer, 56 bytes
//	  0    1  type: 3
//	  1    7  zero
//	  8    8  number of rows in the file
//	 16   32  SHA-256 of everything before
//	 48    8  "kinsyend"
//
// A block holds at most 256 KiB before compression, or a single entry of at most
// 1 GiB. The blocks of deleted keys come first; an entry is that of
// sqllog.EncodeDeleted. A row is
//
//	0    4  length of its body
//	4    4  CRC of its body
//	8       body: kind (1 byte); id, epoch, revision, sub, create revision,
//	        previous revision, version, lease, written at (varints); length of
//	        the key (unsigned varint), key, value
//
// The incarnation makes a chunk recognisable to its writer, whose PUT may have
// been answered by nothing or by a refusal. What the SHA-256 is for beside the
// CRCs: blocks that are sound by themselves may be missing, doubled or moved.
// None of these protects from somebody who wants to deceive; the encryption
// envelope of package object does.
//
// # Invariants
//
//  1. a file covers the rows First to Head, at least one. A chunk holds them all,
//     contiguously; a snapshot those that were still kept, and may hold none.
//  2. ids ascend, epochs and revisions do not fall, from Before on and up to
//     Head's; the changes of one revision ascend by sub; each row keeps the
//     rules of package sqllog.
//  3. writer and reader check the same, so that nothing is written that is not
//     read back.
//  4. the same header and rows give the same bytes in every process of one
//     version of kinsy. Another version may compress differently.
//  5. no size is allocated before its checksum holds and it is in bounds, and
//     not much more than has really been read.
//
// # Order of calls
//
//	Writer   NewWriter, Add for each row, Close; only after Close is it a file
//	Reader   NewReader, Header, Next until io.EOF; only then is the file verified
//
// Rows that Next gives before io.EOF are sound themselves, but the file may still
// turn out to be cut short: what is made of them is to be thrown away unless
// io.EOF comes. Encode and Decode do it all in memory.
package rowfile
