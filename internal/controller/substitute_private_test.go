package controller

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// TestSubstitutedFromSecrets: what variables bring from Secrets is not shown,
// be it a part of it or all of an object, and what they do not bring is.
func TestSubstitutedFromSecrets(t *testing.T) {
	vars := variables{values: map[string]string{}, secret: map[string]bool{}}
	for name, value := range map[string]string{
		"PW": "s3cret-of-mine", "FLAG": "true", "N": "3", "MAP": "{user: somebody, pw: hunter22}", "EMPTY": "", "OURS": "over-laid", "UNUSED": "unused-value",
	} {
		vars.set(name, value, true)
	}
	vars.set("ENV", "production", false)
	vars.set("OURS", "from-the-spec", false)
	cases := map[string]struct {
		spec, text string
		shown      []string
		hidden     []string
		textIs     string
		notPrivate bool
	}{
		"whole":        {spec: "a: ${PW}", text: "is s3cret-of-mine so", textIs: "is ++++++++ so", hidden: []string{"s3cret"}},
		"part of text": {spec: `a: "postgres://me:${PW}@db"`, text: "no port in s3cret-of-mine@db", textIs: "no port in ++++++++@db", hidden: []string{"s3cret"}},
		"cut":          {spec: "a: ${PW:0:6}", text: "is s3cret", textIs: "is ++++++++", hidden: []string{"s3cret"}},
		"in capitals":  {spec: "a: ${PW^^}", text: "is S3CRET-OF-MINE", textIs: "is ++++++++", hidden: []string{"S3CRET"}},
		"structure":    {spec: "a: ${MAP}", text: "is hunter22", textIs: "is ++++++++", hidden: []string{"hunter22", "somebody"}},
		"key":          {spec: `a: {"${PW}.crt": x1234}`, text: "s3cret-of-mine.crt", textIs: "++++++++.crt", hidden: []string{"s3cret"}},
		"flag":         {spec: "a: ${FLAG}\nb: ${N}", text: "true of 3", textIs: "true of 3", shown: []string{"a: true", "b: 3"}},
		"of the spec":  {spec: "a: ${ENV} ${OURS}", text: "production from-the-spec", textIs: "production from-the-spec", shown: []string{"production from-the-spec"}, notPrivate: true},
		"default":      {spec: "a: ${EMPTY:=usual} ${NOWHERE:=usual}", text: "usual", textIs: "usual", shown: []string{"usual usual"}, notPrivate: true},
		"others":       {spec: "a: ${PW}\nb: ${ENV} v1", text: "unused-value in production v1", textIs: "unused-value in production v1", shown: []string{"b: production v1"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			before := &unstructured.Unstructured{}
			manifest := "apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: \"${ENV}-${PW}\", namespace: production}\nspec:\n  " + strings.ReplaceAll(c.spec, "\n", "\n  ")
			if c.notPrivate {
				manifest = strings.Replace(manifest, "-${PW}", "", 1)
			}
			if err := yaml.Unmarshal([]byte(manifest), &before.Object); err != nil {
				t.Fatal(err)
			}
			after, err := substituteObject(before, vars.lookup)
			if err != nil {
				t.Fatal(err)
			}
			ref, p := refOf(after), &private{}
			p.substituted(before, after, vars)
			if p.has(after) == c.notPrivate {
				t.Errorf("private: %v", p.has(after))
			}
			if got := p.scrub(c.text); got != c.textIs {
				t.Errorf("%q is shown as %q, want %q", c.text, got, c.textIs)
			}
			p.hide(after)
			if refOf(after) != ref {
				t.Errorf("it is called %s, want %s", refOf(after), ref)
			}
			spec, err := yaml.Marshal(after.Object["spec"])
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range c.shown {
				if !strings.Contains(string(spec), s) {
					t.Errorf("without %q:\n%s", s, spec)
				}
			}
			for _, s := range c.hidden {
				if strings.Contains(string(spec), s) {
					t.Errorf("with %q:\n%s", s, spec)
				}
			}
		})
	}
}

// TestSubstitutedSecretsAreNotTold: the API server quotes the template of a
// Job that cannot be changed, with the values that variables brought there.
func TestSubstitutedSecretsAreNotTold(t *testing.T) {
	h := newHouse(t)
	const namespace = "flux-vars"
	h.namespace(namespace)
	h.apply(fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: vars, namespace: %s}\nstringData: {PW: %s, NUM: \"1\"}\n", namespace, canary))
	job := func(image string) string {
		return "apiVersion: batch/v1\nkind: Job\nmetadata: {name: once}\nspec:\n  suspend: true\n  parallelism: ${NUM}\n  template:\n    spec:\n      restartPolicy: Never\n" +
			"      containers:\n      - {name: main, image: \"" + image + "\", env: [{name: PW, value: \"me:${PW}\"}]}\n"
	}
	repo := h.repo(namespace, map[string]string{"apps/job.yaml": job("one:1"), "apps/open.yaml": configMap("open", "in-clear")})
	h.apply(h.fluxPair(namespace, "vars", namespace, "./apps", "  targetNamespace: "+namespace+"\n  postBuild: {substituteFrom: [{kind: Secret, name: vars}]}\n"))
	defer h.dropFlux(namespace, "vars")
	k := h.kustomization(namespace, "vars", "to be ready", readyAt(repo.Head()))
	h.waitLive("batch/v1", "Job", namespace, "once", field(1, "spec", "parallelism"))
	silent := func(k *kustomizev1.Kustomization) {
		t.Helper()
		h.silent(k, canary)
		for _, what := range []string{"manifests", "diff"} {
			code, body := h.answer("/api/v1/kustomizations/" + namespace + "/vars/" + what)
			if code != http.StatusOK || strings.Contains(body, canary) || what == "manifests" && !(strings.Contains(body, "in-clear") && strings.Contains(body, "once")) {
				t.Errorf("%s: %d %s", what, code, body)
			}
		}
	}
	silent(k)

	h.push(repo, map[string]string{"apps/job.yaml": job("one:2")})
	silent(h.kustomization(namespace, "vars", "to be refused", notReady("ReconciliationFailed", "once", "immutable")))

	// The value is another one; what was there before is still in the cluster.
	h.apply(fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: vars, namespace: %s}\nstringData: {PW: %s-2, NUM: \"2\"}\n", namespace, canary))
	h.push(repo, map[string]string{"apps/job.yaml": job("one:3")})
	silent(h.kustomization(namespace, "vars", "to be refused again", func(k *kustomizev1.Kustomization) bool {
		return notReady("ReconciliationFailed", "once", "immutable")(k) && strings.Contains(k.Status.LastAttemptedRevision, repo.Head())
	}))
}
