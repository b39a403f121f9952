package cli

import (
	"errors"
	"maps"

	"github.com/urfave/cli/v3"

	"github.com/kinsy/kinsy/pkg/node"
	"github.com/kinsy/kinsy/pkg/s3snap/object"
)

// storeSettings is what the flags of a command fill in that works on object storage without a node.
type storeSettings struct {
	object object.Config
	file   configFile
}

// newStoreFlags returns the flags by which such a command finds object storage. Their values come from where the server's
// come from; the file may be the server's, whose other keys are passed over. more adds further flags of the server.
func newStoreFlags(more ...func(*flagSet)) (*storeSettings, []cli.Flag) {
	s := &storeSettings{object: object.Config{Timeout: object.DefaultTimeout}}
	set := newFlagSet(&s.file)
	set.addObjectStore(&s.object)
	for _, add := range more {
		add(set)
	}
	server, _ := newServerFlags()
	maps.Copy(s.file.known, server.file.known)
	return s, set.flags
}

// config returns the object store that was named. It is an error if none was.
func (s *storeSettings) config() (object.Config, error) {
	if err := s.file.load(); err != nil {
		return object.Config{}, err
	}
	if err := s.object.Validate(); err != nil {
		return object.Config{}, err
	}
	if s.object.URL == "" {
		return object.Config{}, errors.New("--object-store must be given")
	}
	return s.object, nil
}

// addObjectStore adds the flags that fill in c.
func (f *flagSet) addObjectStore(c *object.Config) {
	f.text(&c.URL, spec{name: "object-store", category: categoryObjects,
		usage: "`URL` of object storage: s3://BUCKET/PREFIX or file:///FOLDER"})
	f.text(&c.KeyFile, spec{name: "object-store-key-file", category: categoryObjects,
		usage: "`FILE` of lines with an id and 32 bytes in base64; the first key encrypts every object, all of them decrypt"})
	f.duration(&c.Timeout, spec{name: "object-store-timeout", category: categoryObjects,
		usage: "limit of one small request; larger ones get more"})
	f.addS3(&c.S3)
}

func (f *flagSet) addS3(c *object.S3Config) {
	f.text(&c.Endpoint, spec{name: "s3-endpoint", category: categoryS3, kine: true, fallback: "Amazon's",
		usage: "`URL` of the server: http(s)://HOST[:PORT]"})
	f.text(&c.Region, spec{name: "s3-region", category: categoryS3, fallback: "from the environment or the profile",
		usage: "region of the server"})
	f.text(&c.AddressingStyle, spec{name: "s3-addressing-style", category: categoryS3, fallback: object.AddressingAuto,
		usage: "where the bucket's name stands: " + object.AddressingPath + ", " + object.AddressingVirtual + " for the host's name, or " +
			object.AddressingAuto + " for " + object.AddressingPath + " with --s3-endpoint only"})
	f.text(&c.Profile, spec{name: "s3-profile", category: categoryS3,
		usage: "profile in the shared AWS files"})
	f.text(&c.AccessKey, spec{name: "s3-access-key", category: categoryS3,
		usage: "static credentials; without them the usual AWS variables, files and roles are used"})
	f.text(&c.SecretKey, spec{name: "s3-secret-key", category: categoryS3,
		usage: "secret of --s3-access-key; every process of the machine can read a command line, so give it by the variable"})
	f.text(&c.SessionToken, spec{name: "s3-session-token", category: categoryS3,
		usage: "token of temporary static credentials"})
	f.text(&c.CABundle, spec{name: "s3-ca-bundle", category: categoryS3,
		usage: "PEM `FILE` with authorities to trust beside the system's"})
	f.text(&c.SSE, spec{name: "s3-sse", category: categoryS3, fallback: "the bucket's",
		usage: "encryption by the server: " + object.SSEAES256 + " or " + object.SSEKMS})
	f.text(&c.SSEKMSKeyID, spec{name: "s3-sse-kms-key-id", category: categoryS3, fallback: "the bucket's",
		usage: "key for --s3-sse " + object.SSEKMS})
	f.text(&c.StorageClass, spec{name: "s3-storage-class", category: categoryS3, fallback: "the bucket's",
		usage: "storage class of snapshots"})
}

// addUploads adds what a node does with object storage.
func (f *flagSet) addUploads(c *node.Config) {
	f.integer(&c.Quorum, spec{name: "quorum", category: categoryObjects,
		usage: "a write is acknowledged when it is: -1 on the disks of a majority of the nodes, or of the only node; 0 in object storage; N, in a cluster, on the disks of N other nodes"})
	f.duration(&c.UploadInterval, spec{name: "upload-interval", category: categoryObjects,
		usage: "longest time that a write waits for its upload, with --quorum -1"})
	f.size(&c.UploadBytes, spec{name: "upload-bytes", category: categoryObjects,
		usage: "bytes waiting that are uploaded at once, with --quorum -1"})
	f.size(&c.SnapshotRows, spec{name: "snapshot-rows", category: categoryObjects,
		usage: "rows after which a snapshot is taken; 0 takes none for their number"})
	f.duration(&c.SnapshotInterval, spec{name: "snapshot-interval", category: categoryObjects,
		usage: "time after which a snapshot is taken of what has changed; 0 takes none for its age"})
	f.integer(&c.SnapshotRetention, spec{name: "snapshot-retention", category: categoryObjects,
		usage: "newest snapshots that are kept in any case"})
	f.duration(&c.SnapshotRetentionTime, spec{name: "snapshot-retention-time", category: categoryObjects,
		usage: "how far back any moment can be restored"})
}
