#!/bin/bash
# Deploys the demo of examples/ with the commands that a user has: an image
# made without Docker, a git push, and one Application. Doing it again changes
# nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
fairway=(bin/fairway)
field() { "${fairway[@]}" status -o "jsonpath={.$1}"; }
git_url=$(field gitURL)
registry=$(field registry)
port=${registry##*:}

# The image.
if ! "${fairway[@]}" image inspect "$registry/web-app:v1" >/dev/null 2>&1; then
	echo "==> making the demo's image"
	mkdir -p bin/demo
	go build -ldflags "-s -w" -o bin/demo/web-app ./examples/web-app
	"${fairway[@]}" image create -t "$registry/web-app:v1" --from scratch \
		--add bin/demo/web-app:/web-app --entrypoint /web-app --port 8080
fi

# The repository. The files name the default port; another is put in its place.
if ! git ls-remote --exit-code "$git_url/demo.git" refs/heads/main >/dev/null 2>&1; then
	echo "==> pushing the demo's repository"
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	cp -r examples/demo/. "$work"
	grep -rl ':8420/' "$work" | xargs sed -i "s/:8420\//:$port\//"
	git -C "$work" init -q -b main
	git -C "$work" add -A
	git -C "$work" -c user.name=Fairway -c user.email=demo@fairway.invalid commit -qm "The demo"
	git -C "$work" push -q "$git_url/demo.git" main
	"${fairway[@]}" kubectl apply -f "$work/root.yaml" >/dev/null
fi

echo "==> waiting for the demo"
"${fairway[@]}" app wait root web-app-dev web-app-production --timeout 120
ip=$("${fairway[@]}" kubectl get service web-app -n production -o 'jsonpath={.spec.clusterIP}')
demo="pods are simulated here, so nothing answers at its address, http://$ip/"
[[ $(field 'nodes[*].kind') == *real* ]] && demo="http://$ip/   (from this machine)"
"${fairway[@]}" status
cat <<END

The demo      $demo
Its source    git clone $(sed 's#//[^@]*@#//#' <<<"$git_url")/demo.git   (log in first: bin/fairway login)
Push to it    change web-app/base/deployment.yaml, git commit, git push: it runs within a second
The UI        bin/fairway ui prints a link that is logged in
END
