package e2e

import (
	"strings"
	"testing"
)

// What the shell and programs get of commands that people read: names to
// complete, differences and manifests as data, and what a sync waits for.
func TestForShellsAndPrograms(t *testing.T) {
	dir := shared.repository(t, "shelled", map[string]string{"app/cm.yaml": configMap("shelled", "one")})
	shared.apply(t, application("shelled", publicGitURL(t)+"/shelled.git", "app", "shelled"))
	shared.says(t, "shelled", syncState, "Synced")
	if out := shared.must(t, "app", "render", "shelled", "-o", "jsonpath={.items[0].data.key}"); strings.TrimSpace(out) != "one" {
		t.Errorf("render: %s", out)
	}
	if out := shared.must(t, "app", "diff", "shelled", "-o", "json"); !strings.Contains(out, `"items": [`) {
		t.Errorf("diff: %s", out)
	}
	shared.refused(t, "-o table", "app", "diff", "shelled", "-o", "table")
	for _, c := range []struct{ want, line string }{
		{"shelled", "app get "}, {"shelled", "app wait other "}, {"default", "proj get "}, {"shelled", "repo show "}, {"default", "proj windows list "},
	} {
		if out := shared.must(t, append([]string{"__complete"}, strings.Split(c.line, " ")...)...); !strings.Contains(out, c.want+"\n") {
			t.Errorf("completing %q: %s", c.line, out)
		}
	}
	if out := shared.must(t, "__complete", "app", "list", "-o", ""); !strings.Contains(out, "json\n") {
		t.Errorf("completing -o: %s", out)
	}

	shared.kubectl(t, "patch", "application", "shelled", "-n", "argocd", "--type", "merge", "-p", `{"spec":{"syncPolicy":{"automated":null}}}`)
	shared.push(t, dir, map[string]string{"app/hook.yaml": `apiVersion: batch/v1
kind: Job
metadata: {name: never, annotations: {argocd.argoproj.io/hook: PreSync}}
spec: {suspend: true, template: {spec: {restartPolicy: Never, containers: [{name: c, image: none}]}}}
`})
	shared.refused(t, "sync of shelled is not through after 5s: Running: ", "app", "sync", "shelled", "--timeout", "5")
	shared.must(t, "app", "terminate-op", "shelled")
}
