#!/bin/bash
# Installs what is missing with apt where we are root; otherwise names the
# packages in one line and goes on with what works.
#   hack/deps.sh build|test
set -euo pipefail

# program or file:package
# gcc only recommends the C library that nothing is linked without.
build=(git:git gcc:gcc /usr/include/stdint.h:libc6-dev nft:nftables ip:iproute2 pkg-config:pkg-config /usr/include/seccomp.h:libseccomp-dev /usr/include/linux/if.h:linux-libc-dev)
test=(skopeo:skopeo ssh:openssh-client chromium:chromium jq:jq curl:curl openssl:openssl gpg:gnupg)

case ${1:-build} in
build) want=("${build[@]}") ;;
test) want=("${build[@]}" "${test[@]}") ;;
*) echo "usage: hack/deps.sh build|test" >&2; exit 2 ;;
esac

if ! command -v go >/dev/null; then
	echo "Go 1.26 or later is needed; see https://go.dev/doc/install" >&2
	exit 1
fi

missing=()
for entry in "${want[@]}"; do
	what=${entry%%:*}
	if [[ $what == /* ]]; then
		[[ -e $what ]] && continue
	else
		command -v "$what" >/dev/null && continue
		[[ -x /usr/sbin/$what ]] && continue
	fi
	missing+=("${entry##*:}")
done
[[ ${#missing[@]} -eq 0 ]] && exit 0

if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null; then
	echo "missing, going on without: ${missing[*]} (install them with: sudo apt-get install ${missing[*]})" >&2
	exit 0
fi
echo "==> installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
if ! { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
	tail -20 "$log" >&2
	echo "installing ${missing[*]} failed" >&2
	exit 1
fi
rm -f "$log"
