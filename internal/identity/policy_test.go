package identity

import (
	"errors"
	"strings"
	"sync"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/fairway-cd/fairway/api"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/testkit"
)

// testMirrorPolicy: who may write repositories in one namespace must not say
// what a URL means in others.
func testMirrorPolicy(t *testing.T, c *testkit.Cluster) {
	ctx := t.Context()
	if _, err := api.Install(ctx, c.Config); err != nil {
		t.Fatal(err)
	}
	if err := EnsureRoles(ctx, c.Client); err != nil {
		t.Fatal(err)
	}
	namespace := c.Namespace(t)
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "dana"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "fairway-developer"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: "dana"}},
	}
	if _, err := c.Client.RbacV1().RoleBindings(namespace).Create(ctx, binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	resource := schema.GroupVersionResource{Group: core.Group, Version: "v1alpha1", Resource: core.ResourceRepositories}
	as := func(user string) dynamic.ResourceInterface {
		cfg := rest.CopyConfig(c.Config)
		if user != "" {
			cfg.Impersonate = rest.ImpersonationConfig{UserName: user}
		}
		return dynamic.NewForConfigOrDie(cfg).Resource(resource).Namespace(namespace)
	}
	repository := func(name string, urls ...any) *unstructured.Unstructured {
		spec := map[string]any{}
		if urls != nil {
			spec["insteadOf"] = urls
		}
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": core.Group + "/v1alpha1", "kind": "Repository",
			"metadata": map[string]any{"name": name}, "spec": spec,
		}}
	}
	url := "https://git.example.com/platform/gitops"

	// The API server takes a moment to heed a new policy, and the role.
	testkit.Eventually(t, "the policy is heeded", func() error {
		_, err := as("dana").Create(ctx, repository("taken", url), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if apierrors.IsForbidden(err) && strings.Contains(err.Error(), mirrorMessage) {
			return nil
		}
		return errors.Join(errors.New("want the policy's refusal"), err)
	})
	plain, err := as("dana").Create(ctx, repository("plain"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal("a repository without URLs:", err)
	}
	changed := plain.DeepCopy()
	changed.Object["spec"] = map[string]any{"insteadOf": []any{url}}
	if _, err := as("dana").Update(ctx, changed, metav1.UpdateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("adding a URL: %v, want it forbidden", err)
	}
	given, err := as("").Update(ctx, changed, metav1.UpdateOptions{})
	if err != nil {
		t.Fatal("the operator adds a URL:", err)
	}
	given.SetLabels(map[string]string{"team": "blue"})
	if given, err = as("dana").Update(ctx, given, metav1.UpdateOptions{}); err != nil {
		t.Errorf("a change of something else: %v", err)
	}
	given.Object["spec"] = map[string]any{}
	if _, err := as("dana").Update(ctx, given, metav1.UpdateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("taking a URL away: %v, want it forbidden", err)
	}
}

// Who writes an AppProject with roles is told that they do nothing; the
// project is taken all the same.
func TestProjectRolesAreWarnedOf(t *testing.T) {
	ctx := t.Context()
	c := testkit.StartCluster(t, testkit.ClusterOptions{KwokNodes: -1})
	if _, err := api.Install(ctx, c.Config); err != nil {
		t.Fatal(err)
	}
	if err := EnsureRoles(ctx, c.Client); err != nil {
		t.Fatal(err)
	}
	var heard warnings
	cfg := rest.CopyConfig(c.Config)
	cfg.WarningHandler = &heard
	projects := dynamic.NewForConfigOrDie(cfg).Resource(schema.GroupVersionResource{Group: "argoproj.io", Version: "v1alpha1", Resource: "appprojects"}).Namespace(c.Namespace(t))
	write := func(name string, spec map[string]any) {
		t.Helper()
		_, err := projects.Create(ctx, &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "argoproj.io/v1alpha1", "kind": "AppProject", "metadata": map[string]any{"name": name}, "spec": spec,
		}}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err != nil {
			t.Fatal(err)
		}
	}
	// The API server takes a moment to heed a new policy.
	testkit.Eventually(t, "a warning", func() error {
		write("roles", map[string]any{"roles": []any{map[string]any{"name": "dev"}}})
		if !strings.Contains(heard.all(), "spec.roles is not enforced") {
			return errors.New("heard: " + heard.all())
		}
		return nil
	})
	heard.forget()
	write("none", map[string]any{"sourceRepos": []any{"*"}})
	if text := heard.all(); text != "" {
		t.Errorf("warned without roles: %s", text)
	}
}

// warnings are those that the API server has sent.
type warnings struct {
	mu   sync.Mutex
	text []string
}

func (w *warnings) HandleWarningHeader(_ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, text)
}

func (w *warnings) all() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.text, "\n")
}

func (w *warnings) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = nil
}
