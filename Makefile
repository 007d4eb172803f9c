SHELL := /bin/bash
export CGO_ENABLED := 0
export GOFLAGS := -trimpath -buildvcs=false
build:
	go build -o bin/fairway ./cmd/fairway
