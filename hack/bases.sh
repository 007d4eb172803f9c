#!/bin/bash
# Makes the images that the demo and the tests run, as OCI archives in
# bin/images, without Docker.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p bin/images bin/demo
go build -ldflags "-s -w" -o bin/demo/web-app ./examples/web-app
bin/fairway image create --layout bin/images/web-app --from scratch --add bin/demo/web-app:/web-app \
	--entrypoint /web-app --port 8080
ls -l bin/images
