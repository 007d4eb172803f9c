package controller

import (
	"strings"
	"testing"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
)

// TestApplicationSetRollingSync brings a commit to two stages: the second gets
// it when the first is well, and not at all while the first is not.
func TestApplicationSetRollingSync(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	files := func(value string) map[string]string {
		return map[string]string{"dev/a.yaml": configMap("dev", value), "prod/a.yaml": configMap("prod", value)}
	}
	repo := h.repo("rolling", files("1"))
	set := h.setOf("rolling", "  - list: {elements: [{app: dev}, {app: prod}]}", "rolling-{{ .app }}", "rolling", "{{ .app }}", `  strategy:
    type: RollingSync
    rollingSync:
      steps:
      - matchExpressions: [{key: stage, operator: In, values: [dev]}]
      - matchExpressions: [{key: stage, operator: In, values: [prod]}]
`)
	set = strings.Replace(set, "labels: {set: rolling}", "labels: {set: rolling, stage: '{{ .app }}'}", 1)
	h.apply(set)
	defer h.delete(setObject("rolling"))
	done := func(s *argo.ApplicationSet) bool {
		return setSays(argo.SetConditionRolloutProgressing, "False")(s) && len(s.Status.ApplicationStatus) == 2 &&
			s.Status.ApplicationStatus[0].Status == argo.RolloutHealthy && s.Status.ApplicationStatus[1].Status == argo.RolloutHealthy
	}
	h.waitSet("rolling", "to be rolled out", done)
	for _, name := range []string{"dev", "prod"} {
		h.waitLive("v1", "ConfigMap", "rolling", name, field("1", "data", "key"))
	}
	dev, err := h.app("rolling-dev")
	if err != nil {
		t.Fatal(err)
	}
	prod, err := h.app("rolling-prod")
	if err != nil {
		t.Fatal(err)
	}
	if dev.Spec.SyncPolicy.Automated != nil {
		t.Error("the Application syncs by itself")
	}
	if d, p := dev.Status.OperationState, prod.Status.OperationState; d.FinishedAt.After(p.StartedAt.Time) || d.Operation.InitiatedBy.Username != setUser || !d.Operation.Sync.Prune {
		t.Errorf("dev finished at %v, prod began at %v: %+v", d.FinishedAt, p.StartedAt, d.Operation)
	}

	// What cannot be applied stops in the first stage.
	broken := files("2")
	broken["dev/a.yaml"] = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Not_A_Name}\n"
	h.push(repo, broken)
	h.waitSet("rolling", "to stop", func(s *argo.ApplicationSet) bool {
		return setSays(argo.SetConditionRolloutProgressing, "True", "step 1")(s) &&
			strings.Contains(s.Status.ApplicationStatus[0].Message, "cannot be compared") && s.Status.ApplicationStatus[1].Status == argo.RolloutWaiting
	})
	h.waitLive("v1", "ConfigMap", "rolling", "prod", field("1", "data", "key"))
	third := h.push(repo, files("3"))
	h.waitSet("rolling", "to be rolled out again", func(s *argo.ApplicationSet) bool {
		return done(s) && s.Status.ApplicationStatus[0].TargetRevisions[0] == third && s.Status.ApplicationStatus[1].TargetRevisions[0] == third
	})
	h.waitLive("v1", "ConfigMap", "rolling", "prod", field("3", "data", "key"))
	h.waitLive("v1", "ConfigMap", "rolling", "dev", field("3", "data", "key"))

	// A commit that concerns the second stage alone goes there at once.
	fourth := h.push(repo, map[string]string{"prod/a.yaml": configMap("prod", "4")})
	h.waitSet("rolling", "to be rolled out for the third time", func(s *argo.ApplicationSet) bool {
		return done(s) && s.Status.ApplicationStatus[1].TargetRevisions[0] == fourth
	})
	h.waitLive("v1", "ConfigMap", "rolling", "prod", field("4", "data", "key"))
}
