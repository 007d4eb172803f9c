package controller

import (
	"slices"
	"strings"
	"testing"

	"github.com/fairway-cd/fairway/internal/render"
)

// Argo CD's build environment is put where Argo CD puts it, and nowhere else.
func TestBuildEnvironment(t *testing.T) {
	app, err := readApplication(parse(t, `
metadata: {name: web, namespace: argocd}
spec:
  project: team
  destination: {server: https://kubernetes.default.svc, namespace: prod}
  sources:
  - repoURL: https://example.com/c
    path: charts/web
    targetRevision: main
    helm:
      valueFiles: ["$values/$ARGOCD_APP_NAME.yaml", "${ARGOCD_APP_NAMESPACE}.yaml", "$other", "$ARGOCD_APP_NAME/x.yaml"]
      values: "a: $ARGOCD_APP_NAME"
      parameters: [{name: a, value: "$ARGOCD_APP_NAME-$ARGOCD_APP_PROJECT_NAME$UNKNOWN"}, {name: b, value: "pa$$word $"}]
      fileParameters: [{name: f, path: "files/$ARGOCD_APP_NAME"}]
  - repoURL: https://example.com/k
    path: k
    kustomize: {images: ["web=reg/$ARGOCD_APP_NAME:v1"], commonAnnotations: {a: "$ARGOCD_APP_NAME"}}
  - repoURL: https://example.com/k
    path: k
    kustomize: {commonAnnotationsEnvsubst: true, commonAnnotations: {a: "$ARGOCD_APP_SOURCE_PATH"}}
  - repoURL: https://example.com/j
    path: j
    targetRevision: v1
    directory:
      jsonnet:
        extVars: [{name: a, value: "$ARGOCD_APP_SOURCE_REPO_URL"}]
        tlas: [{name: b, value: "self.x + $.y + '$ARGOCD_APP_SOURCE_TARGET_REVISION'", code: true}]
        libs: [vendor]
`))
	if err != nil {
		t.Fatal(err)
	}
	d, err := applicationDelivery(app, capabilities{})
	if err != nil {
		t.Fatal(err)
	}
	helm := d.sources[0].render.Helm
	if want := []string{"$values/web.yaml", "prod.yaml", "$other", "web/x.yaml"}; !slices.Equal(helm.ValueFiles, want) {
		t.Errorf("value files %q, want %q", helm.ValueFiles, want)
	}
	if helm.Parameters[0].Value != "web-team" || helm.Parameters[1].Value != "pa$word $" || helm.FileParameters[0].Value != "files/web" || helm.Values != "a: $ARGOCD_APP_NAME" {
		t.Errorf("helm %+v", helm)
	}
	k, substituted := d.sources[1].render.Kustomize, d.sources[2].render.Kustomize
	if k.Images[0].NewName != "reg/web" || k.CommonAnnotations["a"] != "$ARGOCD_APP_NAME" || substituted.CommonAnnotations["a"] != "k" {
		t.Errorf("kustomize %+v and %+v", k, substituted)
	}
	if app.Spec.Sources[2].Kustomize.CommonAnnotations["a"] != "$ARGOCD_APP_SOURCE_PATH" {
		t.Error("the spec itself was changed")
	}
	j := d.sources[3].render
	if j.Tool != render.Plain || j.Plain.ExtVars[0].Value != "https://example.com/j" || j.Plain.TLAs[0].Value != "self.x + $.y + 'v1'" || !j.Plain.TLAs[0].Code || j.Plain.Libs[0] != "vendor" {
		t.Errorf("jsonnet %+v", j)
	}

	app.Spec.Sources[3].Directory.Jsonnet.TLAs[0].Value = "${ARGOCD_APP_REVISION_SHORT}"
	_, err = applicationDelivery(app, capabilities{})
	if want := "spec.sources[3].directory.jsonnet.tlas[0].value: $ARGOCD_APP_REVISION_SHORT"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v does not say %q", err, want)
	}
}

// An empty jsonnet is what Argo CD writes itself, and asks for nothing.
func TestDirectoryThatAsksForNothing(t *testing.T) {
	for spec, want := range map[string]render.Tool{
		"{}": render.Auto, "{jsonnet: {}}": render.Auto, "{recurse: true, jsonnet: {}}": render.Plain,
		"{jsonnet: {libs: [vendor]}}": render.Plain, "{exclude: a}": render.Plain,
	} {
		app, err := readApplication(parse(t, `
metadata: {name: web, namespace: argocd}
spec:
  destination: {server: https://kubernetes.default.svc}
  source: {repoURL: https://example.com/k, path: k, directory: `+spec+`}
`))
		if err != nil {
			t.Fatal(err)
		}
		d, err := applicationDelivery(app, capabilities{})
		if err != nil || d.sources[0].render.Tool != want {
			t.Errorf("%s: the tool is %q, want %q; %v", spec, d.sources[0].render.Tool, want, err)
		}
	}
}
