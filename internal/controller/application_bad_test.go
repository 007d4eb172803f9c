package controller

import (
	"strings"
	"testing"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
)

// TestApplicationBadInput has one bad thing at a time, on an Application that
// was fine: each is said in one condition that names what and where, and what
// was applied stays.
func TestApplicationBadInput(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	good := configMap("kept", "good")
	repo := h.repo("bad", map[string]string{"app/a.yaml": good})
	h.apply(h.application("bad", "bad", "app", "bad", automated))
	defer h.delete(appObject("bad"))
	h.waitApp("bad", "to be synced", healthy)

	chart := map[string]string{
		"chart/Chart.yaml":           "apiVersion: v2\nname: c\nversion: 1.0.0\n",
		"chart/templates/cm.yaml":    "{{ required \"who is needed\" .Values.who }}",
		"outside/kustomization.yaml": "resources: [../../../etc]\n",
	}
	h.push(repo, chart)
	spec := func(find, replace string) string {
		return strings.Replace(h.application("bad", "bad", "app", "bad", automated), find, replace, 1)
	}
	cases := map[string]struct {
		manifest  string
		condition string
		says      []string
	}{
		"unknown field":              {spec("    path: app", "    path: app\n    colour: red"), argo.ConditionInvalidSpecError, []string{"spec.source.colour", "unknown field"}},
		"unsupported field":          {spec("    path: app", "    path: app\n    plugin: {name: cue}"), argo.ConditionInvalidSpecError, []string{"spec.source.plugin", "not supported"}},
		"unsupported sync option":    {spec("[CreateNamespace=true]", "[CreateNamespace=true, Fly=true]"), argo.ConditionInvalidSpecError, []string{"spec.syncPolicy.syncOptions[1]", "Fly=true"}},
		"another cluster":            {spec("https://kubernetes.default.svc", "https://elsewhere.example"), argo.ConditionInvalidSpecError, []string{"spec.destination.server", "elsewhere.example"}},
		"no such project":            {spec("project: default", "project: nowhere"), argo.ConditionInvalidSpecError, []string{"nowhere", "is not there"}},
		"repository not there":       {spec("bad.git", "nothere.git"), argo.ConditionComparisonError, []string{"nothere", "does not exist"}},
		"revision not there":         {spec("    path: app", "    path: app\n    targetRevision: v9"), argo.ConditionComparisonError, []string{"v9"}},
		"path not there":             {spec("path: app", "path: apps"), argo.ConditionComparisonError, []string{"apps"}},
		"chart that does not render": {spec("path: app", "path: chart"), argo.ConditionComparisonError, []string{"who is needed", "templates/cm.yaml"}},
		"leaves the repository":      {spec("path: app", "path: outside"), argo.ConditionComparisonError, []string{"outside of the repository", "etc"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h := h.in(t)
			h.apply(c.manifest)
			h.waitApp("bad", "to say what is wrong", func(a *argo.Application) bool {
				return a.Status.Sync.Status == argo.SyncUnknown && hasCondition(a, c.condition, c.says...)
			})
			h.waitLive("v1", "ConfigMap", "bad", "kept", field("good", "data", "key"))
			h.apply(spec("", ""))
			h.waitApp("bad", "to be well again", func(a *argo.Application) bool { return healthy(a) && len(a.Status.Conditions) == 0 })
		})
	}
	contents := map[string]struct {
		file      string
		condition string
		says      []string
	}{
		"broken YAML":            {"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\n data: [\n", argo.ConditionComparisonError, []string{"app/x.yaml:4"}},
		"kind that is not there": {"apiVersion: nobody.example/v1\nkind: Ghost\nmetadata:\n  name: x\n", argo.ConditionSyncError, []string{"Ghost", "nobody.example"}},
		"invalid object":         {"apiVersion: v1\nkind: Service\nmetadata:\n  name: x\nspec:\n  ports: [{port: 99999}]\n", argo.ConditionSyncError, []string{"Service", "x", "port"}},
	}
	for name, c := range contents {
		t.Run(name, func(t *testing.T) {
			h := h.in(t)
			h.push(repo, map[string]string{"app/x.yaml": c.file})
			h.waitApp("bad", "to say what is wrong", func(a *argo.Application) bool {
				return a.Status.Sync.Status != argo.SyncSynced && hasCondition(a, c.condition, c.says...)
			})
			h.waitLive("v1", "ConfigMap", "bad", "kept", field("good", "data", "key"))
			repo.Remove("app/x.yaml")
			h.push(repo, nil)
			h.waitApp("bad", "to be well again", func(a *argo.Application) bool { return healthy(a) && len(a.Status.Conditions) == 0 })
		})
	}
}

func hasCondition(a *argo.Application, kind string, says ...string) bool {
	for _, c := range a.Status.Conditions {
		all := c.Type == kind
		for _, s := range says {
			all = all && strings.Contains(c.Message, s)
		}
		if all {
			return true
		}
	}
	return false
}
