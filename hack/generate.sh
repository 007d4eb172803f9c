#!/bin/bash
# Makes what is generated and checked in: deep copies, CRDs, the reference of
# the command line. With --check it fails where that changes anything.
set -euo pipefail
cd "$(dirname "$0")/.."
paths=(api docs/spec/cli)
before=$(mktemp -d)
trap 'rm -rf "$before"' EXIT
mkdir -p docs/spec/cli
cp -r --parents "${paths[@]}" "$before"

go generate ./api/...
go run ./cmd/fairway docs docs/spec/cli

[[ ${1:-} == --check ]] || exit 0
for path in "${paths[@]}"; do
	if ! diff -r "$before/$path" "$path"; then
		echo "generated files are not up to date: run 'make generate' and commit what changes" >&2
		exit 1
	fi
done
