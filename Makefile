# Fairway. The two commands that matter: make up, make test.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# One set of flags everywhere, so that builds and tests share one cache.
export CGO_ENABLED := 0
export GOFLAGS := -trimpath -buildvcs=false
export GOTOOLCHAIN := local
# The linter's findings name files of the checkout where they were cached, so
# that each checkout needs a cache of its own.
export GOLANGCI_LINT_CACHE := $(CURDIR)/bin/lint-cache

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X github.com/fairway-cd/fairway/internal/app.Version=$(VERSION)
GO_SOURCES := $(shell find cmd internal api -type f -not -name '*_test.go' -not -path '*/testdata/*' 2>/dev/null)
CLUSTER_SOURCES := $(shell find cluster -type f -not -name '*_test.go' -not -path '*/testdata/*' 2>/dev/null)

GOLANGCI_LINT := v2.12.0
GOTESTSUM := v1.13.0
K8S := v1.36.3

.PHONY: help
help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

.PHONY: deps
deps: ## Install what is missing, where we are root
	@hack/deps.sh build

.PHONY: build
build: deps ## Build bin/fairway and the embedded cluster
	@hack/step.sh "building fairway (minutes the first time: it compiles a Kubernetes client, Helm and kustomize)" $(MAKE) --no-print-directory bin/fairway
	@hack/step.sh "building the embedded Kubernetes (minutes the first time: it compiles Kubernetes)" $(MAKE) --no-print-directory bin/fairway-cluster
	@hack/step.sh "building the node's container runtime (minutes the first time)" hack/node-binaries.sh

bin/fairway: $(GO_SOURCES) go.mod go.sum
	@go build -ldflags "$(LDFLAGS)" -o $@ ./cmd/fairway

bin/fairway-cluster: $(CLUSTER_SOURCES)
	@go build -C cluster -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$(K8S) -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36" -o ../bin/fairway-cluster .

.PHONY: up
up: build ## Build, start everything, deploy the demo, say where it is
	@bin/fairway up >/dev/null
	@hack/demo.sh

.PHONY: down
down: ## Stop everything; the data stay
	@if [ -x bin/fairway ]; then bin/fairway down; fi

.PHONY: clean
clean: down ## Stop everything and remove the data and what was built
	@if [ -x bin/fairway ]; then bin/fairway down --purge; fi
	rm -rf bin bench.json

.PHONY: test
test: build oracle bin/tools/gotestsum ## Everything: unit, integration, end to end
	@hack/deps.sh test
	@hack/test.sh

.PHONY: oracle
oracle: ## Build the helm and kustomize that our render is compared with
	@hack/step.sh "building helm and kustomize to compare with" hack/oracle.sh

.PHONY: bench
bench: build ## Measure what the documentation says of speed; writes bench.json
	@go run ./test/bench -o bench.json

.PHONY: bench-compare
bench-compare: build ## Measure Flux and Argo CD as bench does us, where their programs are in PATH
	@go run ./test/bench -only compare -fleet 100 -o bench-compare.json

.PHONY: soak
soak: build ## The long tests: faults, thousands of objects, hours
	@FAIRWAY_SOAK=1 go test -vet=off -count=1 -p 1 -timeout 3h -run Soak ./test/e2e/... ./test/shards/... || { cat bin/faults.txt; exit 1; }
	@cat bin/faults.txt

.PHONY: bases
bases: build ## Make the images that the demo and the tests run
	@hack/bases.sh

.PHONY: generate
generate: ## Make CRDs and deep copies again
	@hack/generate.sh

.PHONY: lint
lint: bin/tools/golangci-lint ## Linters, the house's rules, generated files
	@bin/tools/golangci-lint run --allow-parallel-runners ./...
	@# The linters that follow every call would read all of Kubernetes first.
	@cd cluster && ../bin/tools/golangci-lint run --allow-parallel-runners --config ../.golangci.yml \
		--enable-only=depguard,gochecknoinits,ineffassign,misspell,nolintlint,usestdlibvars ./...
	@hack/generate.sh --check

bin/tools/golangci-lint:
	@hack/step.sh "building golangci-lint" env GOBIN=$(CURDIR)/bin/tools go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT)

bin/tools/gotestsum:
	@hack/step.sh "building gotestsum" env GOBIN=$(CURDIR)/bin/tools go install gotest.tools/gotestsum@$(GOTESTSUM)
