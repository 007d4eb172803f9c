package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/gobwas/glob"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/core"
)

// ProjectError says that an Application's project does not permit something,
// or cannot be held.
type ProjectError struct{ Project, Problem string }

func (e *ProjectError) Error() string { return fmt.Sprintf("project %q %s", e.Project, e.Problem) }

// noProjectError is a ProjectError of a project that is not there.
type noProjectError struct{ *ProjectError }

func (e *noProjectError) Unwrap() error { return e.ProjectError }

func projectName(app *argo.Application) string {
	if app.Spec.Project == "" {
		return argo.DefaultProject
	}
	return app.Spec.Project
}

// project returns the Application's project. Projects live where Argo CD's do,
// in the namespace of Applications; one called default is made there if it is
// not. The error is a *ProjectError, or one of the API server.
func (e *Engine) project(ctx context.Context, app *argo.Application) (*argo.AppProject, error) {
	key := types.NamespacedName{Namespace: e.opts.ArgoNamespace, Name: projectName(app)}
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(argo.GroupVersion.WithKind(argo.AppProjectKind))
	err := e.client.Get(ctx, key, u)
	if apierrors.IsNotFound(err) && key.Name == argo.DefaultProject {
		u, err = e.createDefaultProject(ctx, key)
	}
	if apierrors.IsNotFound(err) {
		return nil, &noProjectError{&ProjectError{key.Name, "is not there in namespace " + key.Namespace}}
	}
	if err != nil {
		return nil, fmt.Errorf("get project %s: %w", key, err)
	}
	p, err := readProject(u)
	if err != nil {
		return nil, &ProjectError{key.Name, err.Error()}
	}
	if app.Namespace != e.opts.ArgoNamespace && !matchAny(p.Spec.SourceNamespaces, app.Namespace) {
		return nil, &ProjectError{key.Name, fmt.Sprintf("does not permit Applications in namespace %q: it is not in spec.sourceNamespaces", app.Namespace)}
	}
	return p, nil
}

func readProject(u *unstructured.Unstructured) (*argo.AppProject, error) {
	p := &argo.AppProject{}
	refused, err := readObject(u, &p.ObjectMeta, &p.Spec, &p.Status)
	if err != nil {
		return nil, err
	}
	checkWindows(p, refused)
	checkPatterns(p, refused)
	return p, refused.orNil()
}

// createDefaultProject makes the project that permits everything, as Argo CD
// does when it starts.
func (e *Engine) createDefaultProject(ctx context.Context, key types.NamespacedName) (*unstructured.Unstructured, error) {
	u := &unstructured.Unstructured{Object: map[string]any{
		"metadata": map[string]any{"name": key.Name, "namespace": key.Namespace},
		"spec": map[string]any{
			"sourceRepos":              []any{"*"},
			"destinations":             []any{map[string]any{"server": "*", "namespace": "*"}},
			"clusterResourceWhitelist": []any{map[string]any{"group": "*", "kind": "*"}},
		},
	}}
	u.SetGroupVersionKind(argo.GroupVersion.WithKind(argo.AppProjectKind))
	err := e.client.Create(ctx, u)
	if apierrors.IsAlreadyExists(err) {
		err = e.reader.Get(ctx, key, u)
	}
	return u, err
}

// itsProject is the Application's project, read once in a run.
func (a *applicationRun) itsProject(ctx context.Context) (*argo.AppProject, error) {
	if a.projectIs != nil {
		return a.projectIs, nil
	}
	p, err := a.project(ctx, a.app)
	if err == nil {
		a.projectIs = p
	}
	return p, err
}

// permitted says whether the project lets the Application deliver t.
func (a *applicationRun) permitted(ctx context.Context, t *target) error {
	p, err := a.itsProject(ctx)
	if err != nil {
		return err
	}
	if problem := destinationProblem(p, a.at.destination(a.app.Spec.Destination.Namespace)); problem != "" {
		return &ProjectError{p.Name, problem + ", which is the destination"}
	}
	if err := a.permitsCluster(ctx, p); err != nil {
		return err
	}
	objects := t.objects.list()
	scope := scopes{known: a.mapping, declared: declaredScopes(objects)}
	for _, o := range objects {
		if err := a.permitsObject(p, o, scope.of(o.GroupVersionKind())); err != nil {
			return err
		}
		if err := a.permitsNested(p, o); err != nil {
			return err
		}
	}
	return permitsClearIn(p, t)
}

// permitsSources says whether the project lets the Application read what it is
// made of. It is asked before that is read.
func (a *applicationRun) permitsSources(ctx context.Context) error {
	p, err := a.itsProject(ctx)
	if err != nil {
		return err
	}
	for _, url := range a.delivery.urls() {
		if !permitsSource(p, a.stages.Sources.Names(url)) {
			return &ProjectError{p.Name, "does not permit the source " + withoutPassword(url)}
		}
	}
	return nil
}

// permitsCluster holds permitOnlyProjectScopedClusters: a Secret of the
// destination's cluster has to name the project. That is so for the cluster
// that we run in, as well.
func (a *applicationRun) permitsCluster(ctx context.Context, p *argo.AppProject) error {
	if !p.Spec.PermitOnlyProjectScopedClusters {
		return nil
	}
	a.byCluster.set(a.key, otherClusters) // whose Secrets count, whatever the destination
	known, err := a.clusters.known(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(known, func(k *knownCluster) bool { return k.project == p.Name && k.server == a.at.server }) {
		return &ProjectError{p.Name, fmt.Sprintf("permits only its own clusters (permitOnlyProjectScopedClusters), and no Secret of cluster %q has project: %s", a.at.name, p.Name)}
	}
	return nil
}

// permitsObject holds the object against the project's kinds and namespaces. A
// kind of which the scope is not known has to be permitted as both: what makes
// it may come before it in the same sync.
func (a *applicationRun) permitsObject(p *argo.AppProject, o *unstructured.Unstructured, scope meta.RESTScopeName) error {
	ref := refOf(o)
	if scope != meta.RESTScopeNameNamespace && !clusterKindPermitted(p, ref) {
		if scope == "" {
			return &ProjectError{p.Name, fmt.Sprintf("does not permit %s, if that is cluster-scoped: the cluster does not know the kind yet", ref)}
		}
		return &ProjectError{p.Name, fmt.Sprintf("does not permit the cluster-scoped %s", ref)}
	}
	if scope == meta.RESTScopeNameRoot {
		return nil
	}
	if ns := o.GetNamespace(); ns != "" {
		if problem := destinationProblem(p, a.at.destination(ns)); problem != "" {
			return &ProjectError{p.Name, fmt.Sprintf("%s, which %s is for", problem, ref)}
		}
	}
	if namespacedKindDenied(p, ref) {
		return &ProjectError{p.Name, fmt.Sprintf("does not permit the kind of %s", ref)}
	}
	return nil
}

func clusterKindPermitted(p *argo.AppProject, ref core.ObjectRef) bool {
	match := func(list []argo.ClusterResourceRestriction) bool {
		return slices.ContainsFunc(list, func(r argo.ClusterResourceRestriction) bool {
			return matches(r.Group, ref.Group) && matches(r.Kind, ref.Kind) && (r.Name == "" || matches(r.Name, ref.Name))
		})
	}
	return match(p.Spec.ClusterResourceWhitelist) && !match(p.Spec.ClusterResourceBlacklist)
}

func namespacedKindDenied(p *argo.AppProject, ref core.ObjectRef) bool {
	return matchKind(p.Spec.NamespaceResourceBlacklist, ref) ||
		len(p.Spec.NamespaceResourceWhitelist) > 0 && !matchKind(p.Spec.NamespaceResourceWhitelist, ref)
}

func matchKind(list []metav1.GroupKind, ref core.ObjectRef) bool {
	return slices.ContainsFunc(list, func(gk metav1.GroupKind) bool {
		return matches(gk.Group, ref.Group) && matches(gk.Kind, ref.Kind)
	})
}

// permitsSource: of the names of a repository, some pattern matches one, and
// none that begins with "!" matches any. What has no name, because it cannot be
// read, is refused by whoever would read it where everything is permitted.
func permitsSource(p *argo.AppProject, names []string) bool {
	permitted := false
	for _, pattern := range p.Spec.SourceRepos {
		pattern, denied := strings.CutPrefix(pattern, "!")
		pattern = normalURL(pattern)
		unnamed := len(names) == 0 && (denied || pattern == "*")
		if !unnamed && !slices.ContainsFunc(names, func(name string) bool { return matches(pattern, name) }) {
			continue
		}
		if denied {
			return false
		}
		permitted = true
	}
	return permitted
}

func matchAny(patterns []string, s string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, s) })
}

// matches says whether the glob matches, as Argo CD's do: "*" crosses "/". A
// pattern that is none matches nothing; checkPatterns refuses such.
func matches(pattern, s string) bool {
	g, err := glob.Compile(pattern)
	return err == nil && g.Match(s)
}
