package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// A sync that is stuck at its hook is ended by hand, and what it was to bring
// comes with the next commit. The status says what was rendered, from what, when
// it was applied and how long each step took, in each dialect.
func TestTerminateAndSteps(t *testing.T) {
	const app = "terminated"
	stuck := strings.Replace(hookJob("before", "PreSync"), "      restartPolicy: Never\n", "      restartPolicy: Never\n      nodeSelector: {no: where}\n", 1)
	dir := shared.repository(t, app, map[string]string{
		"app/one.yaml": configMap("one", "one"), "app/before.yaml": stuck, "flux/one.yaml": configMap("one", "one"), "flux/web.yaml": deployment("web", 1),
	})
	shared.apply(t, application(app, publicGitURL(t)+"/"+app+".git", "app", app))
	shared.says(t, app, phase, "Running")
	shared.says(t, app, message, "waiting")
	if out := shared.must(t, "app", "terminate-op", app); !strings.Contains(out, "terminated") {
		t.Errorf("terminate-op: %s", out)
	}
	shared.says(t, app, phase, "Failed")
	shared.want(t, "", "get", "jobs", "-n", app, "-o", "name")
	shared.push(t, dir, map[string]string{"app/before.yaml": hookJob("before", "PreSync")})
	shared.says(t, app, phase, "Succeeded")
	commit := shared.git(t, dir, "rev-parse", "HEAD")
	shared.kubectl(t, "create", "namespace", app+"-flux")
	shared.apply(t, flux(app, app+"-flux", publicGitURL(t)+"/"+app+".git", "./flux", "  wait: true\n"))
	shared.want(t, "True", "get", "kustomization", app, "-n", "default", "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)

	delivered := regexp.MustCompile(`Delivered: +\S*` + commit[:7] + `\S* at 20\d\d-\S+Z: rendered in [0-9.µm]+s, applied in [0-9.µm]+s, waited for [0-9.µm]+s\nInputs: +sha256:[0-9a-f]{64}\n`)
	for _, name := range []string{app, "default/" + app} {
		if out := shared.must(t, "app", "get", name); !delivered.MatchString(out) {
			t.Errorf("app get %s does not say how %s was delivered:\n%s", name, commit, out)
		}
	}
	before := shared.kubectl(t, "get", "application", app, "-n", "argocd", "-o", "jsonpath={.status.delivered.inputs}")
	shared.push(t, dir, map[string]string{"app/one.yaml": configMap("one", "two")})
	shared.want(t, "two", "get", "configmap", "one", "-n", app, "-o", "jsonpath={.data.key}")
	eventually(t, func() string {
		if after := shared.kubectl(t, "get", "application", app, "-n", "argocd", "-o", "jsonpath={.status.delivered.inputs}"); after == before {
			return fmt.Sprint("other inputs have the same digest ", after)
		}
		return ""
	})
	shared.refused(t, "has no operations", "app", "terminate-op", "default/"+app)
}
