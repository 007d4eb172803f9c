#!/bin/bash
# Runs a command as a step: says what it is and how long it took. Of the
# hundreds of modules that a first build loads, every fiftieth is a line.
#   hack/step.sh "building x" COMMAND [ARG…]
set -euo pipefail
name=$1
shift
fewer_lines() {
	local loaded=0
	while IFS= read -r line || [[ -n $line ]]; do
		if [[ $line != 'go: downloading '* ]]; then
			printf '%s\n' "$line"
		elif ((++loaded % 50 == 0)); then
			printf '    %d modules loaded\n' "$loaded"
		fi
	done
}
began=$(date +%s)
printf '==> %s\n' "$name"
{ "$@" 2>&1 >&3 3>&- | fewer_lines >&2 3>&-; } 3>&1
printf '    %ss\n' "$(($(date +%s) - began))"
