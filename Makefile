# scopefs. `make help` lists the targets.
SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VERSION   := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
GOBUILD   := CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)'
TOOL      := go tool -modfile=tools/go.mod
# Unit tests run everywhere; what lies below test/ needs root and the machine.
UNIT       = $(shell go list ./... | grep -v '/test/')
FUZZTIME  ?= 30s
BENCHCOUNT ?= 6
VM        ?= all

.PHONY: help build build-all test test-unit test-e2e test-vm compat fmt vet lint vuln fuzz bench bench-smoke bench-go demo deps clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## static binaries in bin/
	$(GOBUILD) -o bin/ ./cmd/...

build-all: ## the same for amd64 and arm64, in bin/<arch>/
	GOARCH=amd64 $(GOBUILD) -o bin/amd64/ ./cmd/...
	GOARCH=arm64 $(GOBUILD) -o bin/arm64/ ./cmd/...

test: deps fmt vet lint build-all test-unit test-e2e bench-smoke ## all that this machine can check (as root: end to end too)

test-unit: ## unit tests under the race detector, fuzz seeds included
	go test -race $(UNIT)

test-e2e: build ## end to end on this machine: real containers, as root
	go test -count=1 -p 1 -timeout 20m ./test/...

compat: ## run real programs in containers and write docs/compat.md (test-e2e checks it)
	@test/lib/deps.sh build compat
	go test -count=1 ./test/compat -update

test-vm: ## the same tests in VMs of older and newer kernels: VM="6.1-v2 5.10-v1" selects, JOBS=2 at a time
	@test/lib/deps.sh build vm
	test/vm/run.sh $(VM)

fmt: ## fail on files that gofmt would change
	@files=$$(gofmt -l .); test -z "$$files" || { echo "gofmt -w these:"; echo "$$files"; exit 1; }

vet: ## go vet, also for arm64
	go vet ./...
	GOARCH=arm64 go vet ./...

lint: ## golangci-lint with the rules of .golangci.yml, and shellcheck
	$(TOOL) golangci-lint run
	find . -name '*.sh' -print0 | xargs -0 shellcheck -S warning .ci/run test/vm/init

vuln: ## known vulnerabilities in the code we call (needs vuln.go.dev)
	tools/vuln.sh

fuzz: ## each fuzz target for FUZZTIME=30s
	tools/fuzz.sh $(FUZZTIME)

bench: build bin/bench ## measure reads beside LXCFS, as root, and write docs/performance.md; ONLY=latency,syscalls does it in part
	@test/lib/deps.sh build bench
	bin/bench -scopefs bin/scopefs $(if $(ONLY),-only $(ONLY) -from bin/bench.json) -json bin/bench.json -markdown docs/performance.md

bench-smoke: build bin/bench ## seconds: does the benchmark work?
	bin/bench -scopefs bin/scopefs -smoke >bin/bench-smoke.out

bench-go: ## Go's benchmarks into bench.out; BASE=old.out compares with an earlier run
	go test -run '^$$' -bench . -benchmem -count $(BENCHCOUNT) ./... | tee bench.out
	$(TOOL) benchstat $(BASE) bench.out

.PHONY: bin/bench
bin/bench:
	$(GOBUILD) -o $@ ./test/bench

demo: build ## host and container side by side, under load
	test/demo.sh

deps: ## install the Debian packages that tests need and that are missing
	@test/lib/deps.sh build e2e compat

clean: ## remove what make made (not the caches below ~/.cache/scopefs)
	rm -rf bin bench.out
