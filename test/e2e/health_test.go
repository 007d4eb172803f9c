package e2e

import (
	"strings"
	"testing"
)

// Rules of a team's own count as soon as they are written, and are taken back
// as soon as they are removed. Those with a fault change nothing.
func TestHealthRulesOfOnesOwn(t *testing.T) {
	const app = "health-rules"
	shared.repository(t, app, map[string]string{"app/a.yaml": withState("one", "sick")})
	shared.apply(t, application(app, publicGitURL(t)+"/"+app+".git", "app", app))
	health := []string{"get", "application", app, "-n", "argocd", "-o", "jsonpath={.status.health.status} {.status.resources[0].health.message}"}
	shared.want(t, "Healthy Resource is always ready", health...)

	rules := func(when string) {
		shared.apply(t, `apiVersion: v1
kind: ConfigMap
metadata: {name: health-rules, namespace: fairway-system}
data:
  team.yaml: |
    rules:
    - kinds: [ConfigMap]
      cases:
      - when: `+when+`
        health: Degraded
        text: it is sick
`)
	}
	defer shared.kubectl(t, "delete", "configmap", "health-rules", "-n", "fairway-system", "--ignore-not-found")
	rules("metadata.annotations.state == 'sick'")
	shared.want(t, "Degraded it is sick", health...)

	rules("metadata.annotations.state ==")
	eventually(t, func() string {
		got := shared.kubectl(t, "get", "events", "-n", "fairway-system", "--field-selector=reason=InvalidHealthRules", "-o", "jsonpath={.items[*].message}")
		if !strings.Contains(got, "team.yaml") {
			return "the event says " + got
		}
		return ""
	})
	shared.want(t, "Degraded it is sick", health...)
	shared.kubectl(t, "delete", "configmap", "health-rules", "-n", "fairway-system")
	shared.want(t, "Healthy Resource is always ready", health...)
}

func withState(name, state string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: " + name + "\n  annotations: {state: " + state + "}\n"
}
