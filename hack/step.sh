#!/bin/bash
# Runs a command as a step: says what it is and how long it took.
#   hack/step.sh "building x" COMMAND [ARG…]
set -euo pipefail
name=$1
shift
began=$(date +%s)
printf '==> %s\n' "$name"
"$@"
printf '    %ss\n' "$(($(date +%s) - began))"
