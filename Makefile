# Thin: each target is the command that a person would type. CI (.ci/run) runs the same targets.

VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS     := -s -w -X github.com/kinsy/kinsy/pkg/cli.version=$(VERSION)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME    ?= 30s
ROUNDS      ?= 100
OPS         ?= 100000
SIM_SEEDS   ?= 20000
SIM_FIRST   ?= 1
S3_ROUNDS   ?= 50
S3_MINUTES  ?= 10
S3_HELD_ROWS ?= 200000
CLUSTER_MINUTES ?= 30
CLUSTER_ROUNDS  ?= 20

# Modules of their own below test/, so that kinsy itself does not depend on what its tests compare it with.
NESTED := $(patsubst %/go.mod,%,$(wildcard test/*/go.mod))

.PHONY: all build proto test verify format vet staticcheck tidy proto-check test-sim test-kubernetes test-differential test-kineclient test-harness test-faults test-s3 test-transfer fuzz bench clean

all: verify build test

build:
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o kinsy .

# The race detector needs cgo, and so a C compiler; kinsy itself does not. It watches kinsy and SQLite's driver, but not SQLite
# itself, which is translated from C, keeps to memory that the detector does not know, and would be some thirty times slower.
test:
	CGO_ENABLED=1 go test -race -gcflags=modernc.org/sqlite/lib=-race=false -gcflags=modernc.org/libc=-race=false -timeout 15m ./...
	go test -count=1 -run FreesHistory ./pkg/replicate # all its rounds; with -race there are fewer

verify: format vet staticcheck tidy proto-check

format:
	@files=$$(gofmt -l .); if [ -n "$$files" ]; then echo "not formatted by gofmt:"; echo "$$files"; exit 1; fi

vet:
	go vet ./...
	@for dir in $(NESTED); do echo "go vet in $$dir"; (cd $$dir && CGO_ENABLED=0 go vet ./...) || exit 1; done

staticcheck:
	go run $(STATICCHECK) ./...
	@for dir in $(NESTED); do echo "staticcheck in $$dir"; (cd $$dir && CGO_ENABLED=0 go run $(STATICCHECK) ./...) || exit 1; done

tidy:
	go mod tidy -diff

# Both need protoc (Debian: protobuf-compiler); its plugins are built at pinned versions.
proto:
	pkg/peer/peerpb/generate.sh

proto-check:
	pkg/peer/peerpb/generate.sh --check

# SIM_SEEDS random schedules of the cluster's protocol from seed SIM_FIRST on (a night runs a million), then each rule broken alone.
# Each runs on one processor only: so half of the seeds, the other half and the rules go beside each other.
test-sim:
	@half=$$(($(SIM_SEEDS) / 2)); status=0; \
	$(call simulate,$(SIM_FIRST),$$(($(SIM_SEEDS) - half))) & one=$$!; \
	if [ $$half -gt 0 ]; then $(call simulate,$$(($(SIM_FIRST) + $(SIM_SEEDS) - half)),$$half); fi & other=$$!; \
	go test -tags kinsysim -count=1 -timeout 30m -v -run '^TestSimulationFindsBrokenRules$$' ./pkg/replicate/simulate || status=1; \
	wait $$one || status=1; wait $$other || status=1; exit $$status

# simulate,FIRST,SEEDS runs that many schedules.
simulate = KINSY_SIM_SEED=$(1) KINSY_SIM_SEEDS=$(2) go test -count=1 -timeout 12h -v -run '^TestSimulation$$' ./pkg/replicate/simulate

# A real kube-apiserver and Kubernetes' own storage tests on kinsy.
test-kubernetes:
	cd test/kubernetes && CGO_ENABLED=0 go test -count=1 -p 1 -timeout 30m ./...

# OPS random operations against kinsy and an embedded etcd, every answer and event compared.
test-differential:
	cd test/differential && CGO_ENABLED=0 go test -count=1 -timeout 30m . -args -ops=$(OPS)

# kine's own client package, through which K3s keeps its bootstrap data.
test-kineclient:
	cd test/kineclient && CGO_ENABLED=0 go test -count=1 -timeout 10m ./...

# What test-faults and test-s3 share: its own checks find faults when there are some.
test-harness:
	cd test/harness && CGO_ENABLED=0 go test -count=1 -timeout 5m ./...

# Real processes killed, cut from power, run out of disk, on damaged files; ROUNDS of kill -9 on one store. Then clusters of three:
# CLUSTER_MINUTES of nodes killed, stopped, cut off, of disks and object storage lost; CLUSTER_ROUNDS of each failover.
test-faults:
	cd test/faults && CGO_ENABLED=0 KINSY_FAULT_ROUNDS=$(ROUNDS) go test -count=1 -timeout 20m ./...
	cd test/cluster && CGO_ENABLED=0 KINSY_CLUSTER_MINUTES=$(CLUSTER_MINUTES) KINSY_CLUSTER_ROUNDS=$(CLUSTER_ROUNDS) go test -count=1 -timeout 120m ./...

# A real S3 server behind a proxy that fails: S3_MINUTES of faults under load, S3_ROUNDS of kill -9 with the disk deleted, writes
# beside snapshots of S3_HELD_ROWS.
test-s3:
	cd test/s3 && CGO_ENABLED=0 KINSY_S3_MINUTES=$(S3_MINUTES) KINSY_S3_ROUNDS=$(S3_ROUNDS) KINSY_S3_HELD_ROWS=$(S3_HELD_ROWS) go test -count=1 -timeout 60m ./...

# Histories moved into kinsy from a real etcd, and out again through etcdutl.
test-transfer:
	cd test/transfer && CGO_ENABLED=0 go test -count=1 -timeout 15m ./...

# Every fuzz target for FUZZTIME, or for so many executions: 1000x. (At the end of a time a target may fail with "context
# deadline exceeded" though nothing is wrong: golang/go#48591.)
fuzz:
	@grep -rH --include='*_test.go' --exclude-dir=test -o '^func Fuzz[A-Za-z0-9_]*' . | sort | while IFS=: read -r file target; do \
		target=$${target#func }; pkg=$$(dirname $$file); \
		echo "$$target in $$pkg"; \
		go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$pkg </dev/null || exit 1; \
	done

bench:
	go test -run '^$$' -bench . -benchmem ./pkg/...

clean:
	rm -f kinsy
