#!/usr/bin/env bash
# Generates peer.pb.go and peer_grpc.pb.go from peer.proto. With --check, says instead whether they are up to date.
# Needs protoc (Debian: protobuf-compiler). The plugins are built at the versions below.
set -euo pipefail
cd "$(dirname "$0")/../../.." # the module

PLUGIN_GO=google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
PLUGIN_GRPC=google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for plugin in "$PLUGIN_GO" "$PLUGIN_GRPC"; do
	GOBIN="$work/bin" CGO_ENABLED=0 go install "$plugin"
done
go run ./pkg/peer/peerpb/internal/imports >"$work/imports.pb"
mkdir "$work/out"
PATH="$work/bin:$PATH" protoc --descriptor_set_in="$work/imports.pb" --proto_path=pkg \
	--go_out="$work/out" --go_opt=paths=source_relative \
	--go-grpc_out="$work/out" --go-grpc_opt=paths=source_relative \
	peer/peerpb/peer.proto
# Which protoc it was changes nothing else.
sed -i -e '/^\/\/ 	protoc  *v/d' -e '/^\/\/ - protoc  *v/d' "$work"/out/peer/peerpb/*.go

if [ "${1:-}" != --check ]; then
	cp "$work"/out/peer/peerpb/*.go pkg/peer/peerpb/
	exit
fi
for file in "$work"/out/peer/peerpb/*.go; do
	if ! diff -u "pkg/peer/peerpb/$(basename "$file")" "$file"; then
		echo "pkg/peer/peerpb is not what peer.proto says: run make proto" >&2
		exit 1
	fi
done
