package app

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

func TestSourceSummary(t *testing.T) {
	for name, c := range map[string]struct{ kind, text, url, ready, revision, message string }{
		"ready": {"GitRepository", `
spec: {url: "https://me:secret@example.com/r.git"}
status: {artifact: {revision: "main@sha1:0123456789abcdef0123456789abcdef01234567"}, conditions: [{type: Reconciling, status: "True"}, {type: Ready, status: "True", message: stored}]}`,
			"https://example.com/r.git", "True", "main@0123456", "stored"},
		"not ready":      {"OCIRepository", `{spec: {url: "oci://h/a"}, status: {conditions: [{type: Ready, status: "False", message: away}]}}`, "oci://h/a", "False", "", "away"},
		"new":            {"GitRepository", `{spec: {url: "git@example.com:r"}}`, "git@example.com:r", "Unknown", "", ""},
		"chart":          {"HelmChart", `{spec: {chart: web, sourceRef: {kind: HelmRepository, name: charts}}, status: {artifact: {revision: 1.0.0}}}`, "HelmRepository/charts web", "Unknown", "1.0.0", ""},
		"registry":       {"HelmRepository", `{spec: {type: oci, url: "oci://h/charts"}}`, "oci://h/charts", "True", "", ""},
		"no address":     {"GitRepository", `{spec: {url: "https://me:secret@exa mple.com/"}}`, "", "Unknown", "", ""},
		"what is broken": {"HelmRepository", `{spec: {url: 7}, status: {conditions: [7, {type: Ready}]}}`, "", "Unknown", "", ""},
	} {
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(c.text), &u.Object); err != nil {
			t.Fatal(err)
		}
		s := sourceSummary(c.kind, u)
		if s.URL != c.url || s.Ready != c.ready || s.Revision != c.revision || s.Message != c.message {
			t.Errorf("%s: %+v", name, s)
		}
	}
}
