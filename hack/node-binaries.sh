#!/bin/bash
# Builds what a real node runs into bin/node, from the Go module proxy alone:
# containerd with its shim and client, runc, the CNI plugins, CoreDNS and pause,
# at the versions and checksums of hack/node/go.mod. Does nothing where that is
# done already, or where a real node cannot run.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ $(uname -s) != Linux || $(id -u) -ne 0 ]]; then
	echo "    not root on Linux: no real node, pods are simulated"
	exit 0
fi

out=bin/node
stamp=$out/.stamp
wanted=$({ go version; cat hack/node-binaries.sh hack/node/go.mod hack/node/go.sum hack/node/*/*.go; } | sha256sum)
[[ -f $stamp && $(<"$stamp") == "$wanted" ]] && exit 0

for need in gcc:gcc /usr/include/stdint.h:libc6-dev /usr/include/seccomp.h:libseccomp-dev; do
	what=${need%%:*}
	if [[ ! -e $what ]] && ! command -v "$what" >/dev/null; then
		echo "    ${need##*:} is not installed, which runc is built with: no real node, pods are simulated" >&2
		exit 0
	fi
done

mkdir -p $out
rm -f $stamp
bin=$PWD/$out
cd hack/node
containerd=github.com/containerd/containerd/v2/cmd
plugins=github.com/containernetworking/plugins/plugins
# Snapshotters that need a disk of their own, and tracing, are left out.
CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -X github.com/containerd/containerd/v2/version.Version=$(go list -m -f '{{.Version}}' github.com/containerd/containerd/v2)" \
	-tags "no_btrfs no_devmapper no_zfs no_tracing" -o "$bin/" \
	$containerd/containerd $containerd/containerd-shim-runc-v2 $containerd/ctr \
	$plugins/main/ptp $plugins/ipam/host-local $plugins/meta/portmap \
	./coredns ./pause
# Without seccomp no pod starts, and libseccomp is a C library.
CGO_ENABLED=1 go build -trimpath -buildvcs=false -ldflags "-s -w -linkmode external -extldflags -static -X main.version=$(go list -m -f '{{.Version}}' github.com/opencontainers/runc)" \
	-tags "seccomp urfave_cli_no_docs netgo osusergo" -o "$bin/" github.com/opencontainers/runc
echo "$wanted" >"$bin/.stamp"
