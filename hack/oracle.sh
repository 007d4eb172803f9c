#!/usr/bin/env bash
# Builds the programs that ours is compared with, helm, kustomize, sops and
# kubeseal, from their own modules and with their own dependencies, into
# bin/oracle (or the directory given). The versions are those that go.mod has as
# libraries; of sops we only read the files.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
out=${1:-$root/bin/oracle}
helm=v4.2.0
kustomize=v5.8.2 # on sigs.k8s.io/kustomize/api v0.21.2
sops=v3.13.3
kubeseal=v0.36.0

mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CGO_ENABLED=0 GOFLAGS="-trimpath -buildvcs=false"

# build NAME MODULE VERSION PACKAGE: a module that requires only MODULE.
build() {
  local name=$1 module=$2 version=$3 package=$4
  if [ "$(cat "$out/$name.version" 2>/dev/null)" = "$version" ] && [ -x "$out/$name" ]; then
    return
  fi
  echo "building $name $version (a minute or two)"
  mkdir -p "$work/$name"
  (
    cd "$work/$name"
    printf 'package tools\n\nimport _ "%s"\n' "$package" >tools.go
    go mod init oracle >/dev/null 2>&1
    go get "$package@$version" >/dev/null 2>&1
    go build -o "$out/$name" "$package"
  )
  echo "$version" >"$out/$name.version"
}

# prometheus reads our metrics and evaluates the dashboard's queries. Debian's
# is unpacked and not installed, so that no service starts.
if [ ! -x "$out/prometheus" ] && ! command -v prometheus >/dev/null && command -v apt-get >/dev/null; then
  (
    cd "$work"
    apt-get download prometheus >/dev/null 2>&1 || { apt-get update >/dev/null 2>&1 && apt-get download prometheus >/dev/null 2>&1; }
    dpkg -x prometheus_*.deb unpacked
    install unpacked/usr/bin/prometheus "$out/prometheus"
  ) || echo "prometheus cannot be downloaded: its tests fail" >&2
fi

build kustomize sigs.k8s.io/kustomize/kustomize/v5 $kustomize sigs.k8s.io/kustomize/kustomize/v5
build helm helm.sh/helm/v4 $helm helm.sh/helm/v4/cmd/helm
build sops github.com/getsops/sops/v3 $sops github.com/getsops/sops/v3/cmd/sops
build kubeseal github.com/bitnami-labs/sealed-secrets $kubeseal github.com/bitnami-labs/sealed-secrets/cmd/kubeseal
