package render_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/core/memtree"
	"github.com/fairway-cd/fairway/internal/render"
)

// chart is a chart with one template.
func chart(template string) map[string]any {
	return map[string]any{
		"Chart.yaml":       "apiVersion: v2\nname: c\nversion: 1.0.0\n",
		"templates/a.yaml": template,
	}
}

// bomb is a YAML document that is huge once its aliases are expanded.
func bomb() string {
	var b strings.Builder
	b.WriteString("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bomb}\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 12; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10), ", "))
	}
	return b.String()
}

// reasonOf is the reason of an *Error, and the error itself otherwise.
func reasonOf(err error) string {
	var e *render.Error
	if errors.As(err, &e) {
		return string(e.Reason)
	}
	return fmt.Sprintf("%T: %v", err, err)
}

// TestPoolOutlivesItsJobs renders what takes a process down, beside renders
// that must not notice.
func TestPoolOutlivesItsJobs(t *testing.T) {
	pool := newPool(t, render.PoolOptions{
		Workers: 2, Timeout: 3 * time.Second, MemoryBytes: 256 << 20,
		Limits: render.Limits{MaxOutputBytes: 8 << 20, MaxObjects: 1000},
	})
	cases := map[string]map[string]any{
		"range without end":    chart(`{{ range until 100000000 }}{{ printf "%d" . | sha256sum }}{{ end }}`),
		"tpl of itself":        chart(`{{ define "t" }}{{ tpl "{{ include \"t\" . }}" . }}{{ end }}{{ include "t" . }}`),
		"template of itself":   chart(`{{ define "t" }}{{ template "t" . }}{{ end }}{{ template "t" . }}`),
		"dict in itself":       chart(`{{ $d := dict "a" 1 }}{{ $_ := set $d "a" $d }}{{ deepCopy $d }}`),
		"huge string":          chart(`a: {{ repeat 2000000000 "x" }}`),
		"growing string":       chart(`{{ $s := "xxxxxxxx" }}{{ range until 40 }}{{ $s = print $s $s }}{{ end }}{{ $s }}`),
		"much output":          chart(`{{ range until 200000 }}a: {{ repeat 100 "x" }}` + "\n" + `{{ end }}`),
		"many objects":         chart(`{{ range until 2000 }}---` + "\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a{{ . }}}\n" + `{{ end }}`),
		"template without end": chart(`{{ $l := list 1 }}{{ range untilStep 0 1000000000 1 }}{{ $l = append $l . }}{{ end }}`),
	}
	ctx, stop := context.WithCancel(context.Background())
	var good sync.WaitGroup
	rendered := 0
	good.Go(func() {
		for ctx.Err() == nil {
			r, err := pool.Render(context.Background(), render.Request{Tree: memtree.New(overlayFiles()), Path: "over"})
			if err != nil || len(r.Objects) != 1 {
				t.Errorf("a good render beside the bad ones: %v", err)
				return
			}
			rendered++
		}
	})
	for name, files := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := pool.Render(context.Background(), render.Request{Tree: memtree.New(files), Path: "."})
			if got := reasonOf(err); got != string(render.LimitExceeded) && got != string(render.ChartFailed) {
				t.Fatalf("%s: %v", got, err)
			}
			t.Log(err)
		})
	}
	stop()
	good.Wait()
	if rendered == 0 {
		t.Error("no good render ran beside the bad ones")
	}
	mustRender(t, pool, render.Request{Tree: memtree.New(overlayFiles()), Path: "over"})
}

func TestPoolYAMLBombs(t *testing.T) {
	pool := newPool(t, render.PoolOptions{Workers: 1, Timeout: 5 * time.Second, MemoryBytes: 256 << 20})
	deep := strings.Repeat("[", 100000) + strings.Repeat("]", 100000)
	for name, files := range map[string]map[string]any{
		"plain":          {"a.yaml": bomb()},
		"kustomize":      {"kustomization.yaml": "resources: [a.yaml]\nnamePrefix: x-\n", "a.yaml": bomb()},
		"kustomization":  {"kustomization.yaml": bomb()},
		"values":         {"Chart.yaml": "apiVersion: v2\nname: c\nversion: 1.0.0\n", "values.yaml": bomb(), "templates/a.yaml": "{{ toYaml .Values }}"},
		"deep plain":     {"a.yaml": "apiVersion: v1\nkind: A\nmetadata: {name: a}\nx: " + deep},
		"deep kustomize": {"kustomization.yaml": "resources: [a.yaml]\n", "a.yaml": "apiVersion: v1\nkind: A\nmetadata: {name: a}\nx: " + deep},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := pool.Render(context.Background(), render.Request{Tree: memtree.New(files), Path: "."})
			var e *render.Error
			if !errors.As(err, &e) {
				t.Fatalf("want an *Error, got %v", err)
			}
			t.Log(e.Reason, e)
		})
	}
}

func TestNothingLeavesTheTree(t *testing.T) {
	kustomization := func(text string) map[string]any { return map[string]any{"app/kustomization.yaml": text} }
	with := func(files map[string]any, more ...any) map[string]any {
		for i := 0; i < len(more); i += 2 {
			files[more[i].(string)] = more[i+1]
		}
		return files
	}
	helmChart := func(more ...any) map[string]any {
		return with(map[string]any{
			"app/Chart.yaml":       "apiVersion: v2\nname: c\nversion: 1.0.0\n",
			"app/templates/a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n",
		}, more...)
	}
	for name, c := range map[string]struct {
		files map[string]any
		want  render.Reason
		req   render.Request
	}{
		"base outside":         {files: kustomization("resources: [../../../etc]\n"), want: render.OutsideTree},
		"file outside":         {files: kustomization("configMapGenerator: [{name: a, files: [../../etc/passwd]}]\n"), want: render.OutsideTree},
		"absolute file":        {files: kustomization("configMapGenerator: [{name: a, files: [/etc/passwd]}]\n"), want: render.OutsideTree},
		"absolute link":        {files: with(kustomization("resources: [a.yaml]\n"), "app/a.yaml", memtree.Link("/etc/passwd")), want: render.OutsideTree},
		"link outside":         {files: with(kustomization("resources: [a.yaml]\n"), "app/a.yaml", memtree.Link("../../x.yaml")), want: render.OutsideTree},
		"directory link":       {files: with(kustomization("resources: [d]\n"), "app/d", memtree.Link("../..")), want: render.OutsideTree},
		"link loop":            {files: with(kustomization("resources: [a.yaml]\n"), "app/a.yaml", memtree.Link("b.yaml"), "app/b.yaml", memtree.Link("a.yaml")), want: render.PathNotFound},
		"http resource":        {files: kustomization("resources: [\"https://example.com/a.yaml\"]\n"), want: render.RemoteNotAllowed},
		"git base":             {files: kustomization("bases: [\"git@github.com:o/r.git\"]\n"), want: render.RemoteNotAllowed},
		"github base":          {files: kustomization("resources: [\"github.com/o/r//x?ref=v1\"]\n"), want: render.RemoteNotAllowed},
		"file URL":             {files: kustomization("resources: [\"file:///etc\"]\n"), want: render.RemoteNotAllowed},
		"remote component":     {files: kustomization("components: [\"ssh://git@host/r\"]\n"), want: render.RemoteNotAllowed},
		"remote patch":         {files: kustomization("patches: [{path: \"http://example.com/p\"}]\n"), want: render.RemoteNotAllowed},
		"remote generator":     {files: kustomization("configMapGenerator: [{name: a, files: [\"k=https://example.com/p\"]}]\n"), want: render.RemoteNotAllowed},
		"remote schema":        {files: kustomization("openapi: {path: \"http://example.com/p\"}\n"), want: render.RemoteNotAllowed},
		"remote in transform":  {files: with(kustomization("transformers: [t.yaml]\n"), "app/t.yaml", "apiVersion: builtin\nkind: PatchTransformer\nmetadata: {name: a}\npath: https://example.com/x\n"), want: render.RemoteNotAllowed},
		"helmCharts":           {files: kustomization("helmCharts: [{name: a, repo: https://example.com}]\n"), want: render.Unsupported},
		"exec plugin":          {files: with(kustomization("generators: [g.yaml]\n"), "app/g.yaml", "apiVersion: example.com/v1\nkind: Gen\nmetadata: {name: a}\n"), want: render.Unsupported},
		"exec function":        {files: with(kustomization("generators: [g.yaml]\n"), "app/g.yaml", "apiVersion: example.com/v1\nkind: Gen\nmetadata:\n  name: a\n  annotations: {config.kubernetes.io/function: \"exec: {path: /bin/sh}\"}\n"), want: render.Unsupported},
		"plain link":           {files: map[string]any{"app/a.yaml": memtree.Link("../../b.yaml")}, want: render.OutsideTree},
		"path outside":         {files: kustomization(""), want: render.OutsideTree, req: render.Request{Path: "../.."}},
		"path missing":         {files: kustomization(""), want: render.PathNotFound, req: render.Request{Path: "nope"}},
		"chart link":           {files: helmChart("app/files", memtree.Link("/etc")), want: render.OutsideTree},
		"values outside":       {files: helmChart(), want: render.OutsideTree, req: render.Request{Helm: render.HelmOptions{ValueFiles: []string{"../../v.yaml"}}}},
		"values remote":        {files: helmChart(), want: render.RemoteNotAllowed, req: render.Request{Helm: render.HelmOptions{ValueFiles: []string{"https://u:p@example.com/v.yaml"}}}},
		"values missing":       {files: helmChart(), want: render.PathNotFound, req: render.Request{Helm: render.HelmOptions{ValueFiles: []string{"v.yaml"}}}},
		"values of no source":  {files: helmChart(), want: render.PathNotFound, req: render.Request{Helm: render.HelmOptions{ValueFiles: []string{"$x/v.yaml"}}}},
		"schema file":          {files: helmChart("app/values.schema.json", `{"$ref": "file:///etc/passwd"}`), want: render.RemoteNotAllowed},
		"schema relative":      {files: helmChart("app/values.schema.json", `{"properties": {"a": {"$ref": "etc/passwd"}}}`), want: render.RemoteNotAllowed},
		"schema http":          {files: helmChart("app/values.schema.json", `{"properties": {"a": {"$ref": "http://example.com/s"}}}`), want: render.RemoteNotAllowed},
		"dependency remote":    {files: helmChart("app/Chart.yaml", "apiVersion: v2\nname: c\nversion: 1.0.0\ndependencies: [{name: d, version: 1, repository: https://example.com}]\n"), want: render.RemoteNotAllowed},
		"dependency outside":   {files: helmChart("app/Chart.yaml", "apiVersion: v2\nname: c\nversion: 1.0.0\ndependencies: [{name: d, version: 1, repository: \"file://../../d\"}]\n"), want: render.OutsideTree},
		"dependency of itself": {files: helmChart("app/Chart.yaml", "apiVersion: v2\nname: c\nversion: 1.0.0\ndependencies: [{name: c, version: 1, repository: \"file://.\"}]\n"), want: render.LimitExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			req := c.req
			req.Tree = memtree.New(c.files)
			if req.Path == "" {
				req.Path = "app"
			}
			_, err := render.NewEngine(render.Limits{}).Render(context.Background(), req)
			if reasonOf(err) != string(c.want) {
				t.Fatalf("%s: %v, want %s", reasonOf(err), err, c.want)
			}
			if strings.Contains(err.Error(), "u:p@") || strings.Contains(err.Error(), "fairway-source") {
				t.Errorf("the error says too much: %v", err)
			}
			t.Log(err)
		})
	}
}

func TestLinksInsideTheTreeAreFollowed(t *testing.T) {
	files := map[string]any{
		"real/base/kustomization.yaml": "resources: [cm.yaml]\n",
		"real/base/cm.yaml":            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n",
		"link":                         memtree.Link("real"),
		"app/kustomization.yaml":       "resources: [b, one.yaml]\n",
		"app/b":                        memtree.Link("../link/base"),
		"app/one.yaml":                 memtree.Link("../shared.yaml"),
		"shared.yaml":                  "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n",
	}
	result := mustRender(t, render.NewEngine(render.Limits{}), render.Request{Tree: memtree.New(files), Path: "app"})
	if len(result.Objects) != 2 {
		t.Fatalf("%d objects, want 2", len(result.Objects))
	}
	files["link"] = memtree.Link("elsewhere")
	same, err := render.Unchanged(context.Background(), result.Inputs, map[string]core.Tree{"": memtree.New(files)})
	if err != nil || same {
		t.Errorf("a link that was followed has changed: unchanged is %v, %v", same, err)
	}
}

func TestErrorsHoldNoSecrets(t *testing.T) {
	const secret = "Tr0ub4dor&3"
	head := "apiVersion: v2\nname: c\nversion: 1.0.0\n"
	values := render.HelmOptions{Values: "db: {password: \"" + secret + "\"}\n"}
	for name, c := range map[string]struct {
		files map[string]string
		opts  render.HelmOptions
	}{
		"fail":       {map[string]string{"Chart.yaml": head, "templates/a.yaml": `{{ fail (print "bad " .Values.db.password) }}`}, values},
		"tpl":        {map[string]string{"Chart.yaml": head, "templates/a.yaml": `{{ tpl (print "{{ nope }}" .Values.db.password) . }}`}, values},
		"broken":     {map[string]string{"Chart.yaml": head, "templates/a.yaml": "a: {{ .Values.db.password }}: b: [\n"}, values},
		"int":        {map[string]string{"Chart.yaml": head, "templates/a.yaml": `{{ index .Values.db.password "x" }}`}, values},
		"schema":     {map[string]string{"Chart.yaml": head, "values.schema.json": `{"properties":{"db":{"properties":{"password":{"pattern":"^x$"}}}}}`}, values},
		"const":      {map[string]string{"Chart.yaml": head, "values.schema.json": `{"properties":{"db":{"properties":{"password":{"type":"integer"}}}}}`}, values},
		"default":    {map[string]string{"Chart.yaml": head, "values.yaml": "token: " + secret + "\n", "templates/a.yaml": `{{ fail .Values.token }}`}, render.HelmOptions{}},
		"set":        {map[string]string{"Chart.yaml": head}, render.HelmOptions{Parameters: []render.HelmParameter{{Name: "a[x]", Value: secret}}}},
		"values":     {map[string]string{"Chart.yaml": head}, render.HelmOptions{Values: "a: [" + secret}},
		"not a map":  {map[string]string{"Chart.yaml": head}, render.HelmOptions{Values: secret}},
		"plain":      {map[string]string{"a.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData:\n  a: " + secret + "\n b: c\n"}, render.HelmOptions{}},
		"plain type": {map[string]string{"a.json": `{"kind": "Secret", "stringData": {"a": "` + secret + `"}}`}, render.HelmOptions{}},
		"literal":    {map[string]string{"kustomization.yaml": "secretGenerator: [{name: a, literals: [\"" + secret + "\"]}]\n"}, render.HelmOptions{}},
		"env":        {map[string]string{"kustomization.yaml": "secretGenerator: [{name: a, envs: [e]}]\n", "e": secret + " is no=name\n" + "a=1\na=" + secret + "\n"}, render.HelmOptions{}},
		"resource":   {map[string]string{"kustomization.yaml": "resources: [a.yaml]\n", "a.yaml": "apiVersion: v1\nkind: Secret\nstringData: {a: \"" + secret + "\"}\n"}, render.HelmOptions{}},
		"syntax":     {map[string]string{"kustomization.yaml": "resources: [a.yaml]\n", "a.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData:\n  a: " + secret + "\n b: c\n"}, render.HelmOptions{}},
		"patch":      {map[string]string{"kustomization.yaml": "resources: [a.yaml]\npatches: [{target: {kind: Secret}, patch: \"[{op: replace, path: /no/such, value: " + secret + "}]\"}]\n", "a.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n"}, render.HelmOptions{}},
		"bad patch":  {map[string]string{"kustomization.yaml": "resources: [a.yaml]\npatches: [{target: {kind: Secret}, patch: \"{x: [" + secret + "\"}]\n", "a.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n"}, render.HelmOptions{}},
		"no match":   {map[string]string{"kustomization.yaml": "patches: [{patch: \"{apiVersion: v1, kind: Secret, metadata: {name: z}, stringData: {a: " + secret + "}}\"}]\n"}, render.HelmOptions{}},
		"field type": {map[string]string{"kustomization.yaml": "secretGenerator: " + secret + "\n"}, render.HelmOptions{}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := renderFiles(t, c.files, render.Request{Helm: c.opts})
			var e *render.Error
			if !errors.As(err, &e) {
				t.Fatalf("want an *Error, got %v", err)
			}
			if text := e.Error() + e.Hint(); strings.Contains(text, secret) || strings.Contains(text, secret[:8]) {
				t.Errorf("the error holds the secret: %s", text)
			}
			t.Log(e.Reason, e)
		})
	}
}
