package api_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/fluxcd/pkg/apis/kustomize"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	fairway "github.com/fairway-cd/fairway/api/fairway/v1alpha1"
	"github.com/fairway-cd/fairway/api/flux"
)

// pages are the kinds, and the pages that describe them.
var pages = []struct {
	kind, page string
	spec       any
}{
	{"Application", "application.md", argo.ApplicationSpec{}},
	{"Application's operation", "application.md", struct {
		Operation argo.Operation `json:"operation"`
	}{}},
	{"AppProject", "appproject.md", argo.AppProjectSpec{}},
	{"ApplicationSet", "applicationset.md", argo.ApplicationSetSpec{}},
	{"GitRepository", "gitrepository.md", sourcev1.GitRepositorySpec{}},
	{"OCIRepository", "ocirepository.md", sourcev1.OCIRepositorySpec{}},
	{"HelmRepository", "helmrepository.md", sourcev1.HelmRepositorySpec{}},
	{"HelmChart", "helmrepository.md", sourcev1.HelmChartSpec{}},
	{"HelmRelease", "helmrelease.md", helmv2.HelmReleaseSpec{}},
	{"Kustomization", "kustomization.md", flux.KustomizationSpec{}},
	{"Repository", "repository.md", fairway.RepositorySpec{}},
	{"SealedSecret", "secrets.md", ssv1alpha1.SealedSecretSpec{}},
}

// Each field of each kind is in the table "All fields" of its page, which says
// what becomes of it; and the table has no field that there is not.
func TestFieldsAreDocumented(t *testing.T) {
	known := map[string]map[string]bool{}
	for _, p := range pages {
		if known[p.page] == nil {
			known[p.page] = map[string]bool{}
		}
		for _, field := range fieldsOf(p.spec) {
			known[p.page][field] = true
		}
	}
	for page, fields := range known {
		rows := tableOf(t, page)
		for _, field := range slices.Sorted(keysOf(fields)) {
			if _, ok := rows[field]; !ok {
				t.Errorf("%s does not name %s", page, field)
			}
		}
		for field, says := range rows {
			if !fields[field] {
				t.Errorf("%s names %s, which there is not", page, field)
			}
			if !says {
				t.Errorf("%s does not say of %s whether it works, is refused or has no effect", page, field)
			}
		}
	}
}

func keysOf(m map[string]bool) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// row is "| `field` | works… |".
var row = regexp.MustCompile("^\\| `([^`]+)` \\| (.*) \\|$")

// verdict is how a row's text begins.
var verdict = regexp.MustCompile(`^(works|refused|no effect)\b`)

// tableOf are the rows of the page's section "All fields".
func tableOf(t *testing.T, page string) map[string]bool {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "docs", "spec", page))
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]bool{}
	inside := false
	for line := range strings.SplitSeq(string(data), "\n") {
		if strings.HasPrefix(line, "#") {
			inside = strings.HasSuffix(line, "All fields")
		}
		if m := row.FindStringSubmatch(line); inside && m != nil {
			rows[m[1]] = verdict.MatchString(m[2])
		}
	}
	return rows
}

// fieldsOf are the paths of a type's fields that have a value of their own:
// those of structs of ours and of Flux are gone into, those of Kubernetes are
// not. The element of a list is "[]".
func fieldsOf(spec any) []string {
	var fields []string
	typ := reflect.TypeOf(spec)
	prefix := "spec"
	if typ.Name() == "" {
		prefix = ""
	}
	walk(typ, prefix, nil, &fields)
	slices.Sort(fields)
	return slices.Compact(fields)
}

func walk(typ reflect.Type, at string, above []reflect.Type, fields *[]string) {
	for {
		switch typ.Kind() {
		case reflect.Pointer:
			typ = typ.Elem()
			continue
		case reflect.Slice:
			if inner(typ.Elem()) {
				at += "[]"
			}
			typ = typ.Elem()
			continue
		}
		break
	}
	if !inner(typ) || slices.Contains(above, typ) || leaf(typ, at, above) {
		*fields = append(*fields, strings.TrimSuffix(at, "[]"))
		return
	}
	above = append(slices.Clone(above), typ)
	for i := range typ.NumField() {
		f := typ.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported():
		case name == "" && (f.Anonymous || options == "inline"):
			walk(f.Type, at, above, fields)
		default:
			walk(f.Type, strings.TrimPrefix(at+"."+name, "."), above, fields)
		}
	}
}

// leaf says that a type is described elsewhere: an Application's source where
// it is first met, the Applications of an ApplicationSet on their own page, and
// what takes part in another thing of its own kind.
func leaf(typ reflect.Type, at string, above []reflect.Type) bool {
	switch typ {
	case reflect.TypeFor[argo.ApplicationSpec]():
		return len(above) > 0
	case reflect.TypeFor[argo.ApplicationSource]():
		return at != "spec.source"
	case reflect.TypeFor[argo.ApplicationSetTemplate]():
		return at != "spec.template"
	}
	return slices.Contains([]reflect.Type{
		reflect.TypeFor[kustomize.Selector](), reflect.TypeFor[argo.SourcePlugin](), reflect.TypeFor[argo.SourceHydrator](),
		reflect.TypeFor[argo.KustomizeTarget](), reflect.TypeFor[kustomize.JSON6902](),
	}, typ)
}

// inner says that the fields of a type are its own.
func inner(typ reflect.Type) bool {
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct {
		return false
	}
	for _, path := range []string{"github.com/fairway-cd/", "github.com/fluxcd/", "github.com/bitnami-labs/"} {
		if strings.HasPrefix(typ.PkgPath(), path) {
			return true
		}
	}
	return typ.PkgPath() == ""
}

// TestFieldsOf shows what the walk finds.
func TestFieldsOf(t *testing.T) {
	got := fieldsOf(argo.AppProjectSpec{})
	for _, want := range []string{"spec.sourceRepos", "spec.destinations[].server", "spec.syncWindows[].andOperator", "spec.roles[].jwtTokens[].iat"} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is not among %s", want, fmt.Sprint(got))
		}
	}
}

// Each test that the page of semantics names is there.
func TestSemanticsNameTests(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "docs", "spec", "semantics.md"))
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	for _, root := range []string{"../internal", "../test", "../api"} {
		err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			data, err := os.ReadFile(path)
			for _, m := range declared.FindAllSubmatch(data, -1) {
				there[string(m[1])] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	named := regexp.MustCompile("`(Test\\w+)`").FindAllSubmatch(page, -1)
	if len(named) == 0 {
		t.Fatal("the page names no tests")
	}
	for _, m := range named {
		if !there[string(m[1])] {
			t.Errorf("semantics.md names %s, which there is not", m[1])
		}
	}
}
