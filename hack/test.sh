#!/bin/bash
# Runs every test of both modules and ends with one line that counts them,
# the skipped ones included. Arguments go to go test.
set -euo pipefail
cd "$(dirname "$0")/.."
FAIRWAY_CLUSTER=$PWD/bin/fairway-cluster
FAIRWAY_BIN=$PWD/bin/fairway
export FAIRWAY_CLUSTER FAIRWAY_BIN
export FAIRWAY_CORPUS=${FAIRWAY_CORPUS:-$PWD/../shared/corpus}
mkdir -p bin/test
status=0
# Vetting is the linter's work; here it would read all of Kubernetes first.
# Packages that start clusters of their own are many: two at a time suits the
# machines that this runs on.
bin/tools/gotestsum --format pkgname-and-test-fails --jsonfile bin/test/main.json -- \
	-p 2 -vet=off -timeout 25m "$@" ./... || status=1
(cd cluster && ../bin/tools/gotestsum --format pkgname-and-test-fails --jsonfile ../bin/test/cluster.json -- \
	-p 1 -vet=off -timeout 15m "$@" ./...) || status=1

count() { cat bin/test/main.json bin/test/cluster.json | grep -c "\"Action\":\"$1\",\"Package\":\"[^\"]*\",\"Test\"" || true; }
echo "skipped:"
cat bin/test/main.json bin/test/cluster.json | grep '"Action":"skip"' | grep -o '"Test":"[^"]*"' | sed 's/"Test":/  /' | sort | uniq -c || true
echo "$(count pass) passed, $(count fail) failed, $(count skip) skipped"
exit $status
