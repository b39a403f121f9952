// Command imports writes to standard output the descriptors of the files that peer.proto imports, as protoc's
// --descriptor_set_in reads them. They come from the Go packages that kinsy is linked with, so that no .proto file of
// another project has to be fetched.
package main

import (
	"os"

	"github.com/sirupsen/logrus"
	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/versionpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// renamed are the files that etcd's packages register under another path than rpc.proto imports them by.
var renamed = map[string]protoreflect.FileDescriptor{
	"etcd/api/mvccpb/kv.proto":         mvccpb.File_kv_proto,
	"etcd/api/authpb/auth.proto":       authpb.File_auth_proto,
	"etcd/api/versionpb/version.proto": versionpb.File_version_proto,
}

func main() {
	set := &descriptorpb.FileDescriptorSet{}
	add(set, map[string]bool{}, "rpc.proto", etcdserverpb.File_rpc_proto)
	out, err := proto.Marshal(set)
	if err == nil {
		_, err = os.Stdout.Write(out)
	}
	if err != nil {
		logrus.WithError(err).Fatal("descriptors not written")
	}
}

// add appends a file under a path, after the files that it imports, each once.
func add(set *descriptorpb.FileDescriptorSet, seen map[string]bool, path string, file protoreflect.FileDescriptor) {
	if seen[path] {
		return
	}
	seen[path] = true
	imports := file.Imports()
	for i := range imports.Len() {
		imported := imports.Get(i).FileDescriptor
		if known, ok := renamed[imported.Path()]; ok {
			add(set, seen, imported.Path(), known)
		} else {
			add(set, seen, imported.Path(), imported)
		}
	}
	described := protodesc.ToFileDescriptorProto(file)
	described.Name = &path
	set.File = append(set.File, described)
}
