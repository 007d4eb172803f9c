package appset

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	kjson "sigs.k8s.io/json"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
)

// maxNesting is how deep Matrix and Merge may be in each other, as in Argo CD.
const maxNesting = 2

// FieldError says what of a generator is refused. Path is as a person writes
// it, from the spec on.
type FieldError struct{ Path, Problem string }

func (e *FieldError) Error() string { return e.Path + ": " + e.Problem }

// generate returns the sets of parameters of a generator that is at at, inside
// of depth others.
func (g *generation) generate(ctx context.Context, gen *argo.ApplicationSetGenerator, at string, depth int) ([]Params, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	params, err := g.find(ctx, gen, at, depth)
	if err == nil {
		params, err = selected(params, gen.Selector)
	}
	if err == nil && len(params) > g.limits.Applications {
		err = tooMany("sets of parameters", int64(len(params)), int64(g.limits.Applications))
	}
	if err != nil && !as[*ParamsError](err) {
		err = &ParamsError{at, err}
	}
	return params, err
}

func (g *generation) find(ctx context.Context, gen *argo.ApplicationSetGenerator, at string, depth int) ([]Params, error) {
	switch {
	case gen.List != nil:
		return g.list(gen.List)
	case gen.Clusters != nil:
		return g.clusters(ctx, gen.Clusters)
	case gen.Git != nil:
		return g.git(ctx, gen.Git)
	case gen.SCMProvider != nil:
		return g.repositories(ctx, gen.SCMProvider)
	case gen.PullRequest != nil:
		return g.pullRequests(ctx, gen.PullRequest)
	case gen.Matrix != nil:
		return g.matrix(ctx, gen.Matrix, at+".matrix", depth)
	case gen.Merge != nil:
		return g.merge(ctx, gen.Merge, at+".merge", depth)
	}
	return nil, errors.New("it has no generator")
}

// kinds are the generators that are set, and where their templates are.
func kinds(gen *argo.ApplicationSetGenerator) map[string]*argo.ApplicationSetTemplate {
	set := map[string]*argo.ApplicationSetTemplate{}
	if gen.List != nil {
		set["list"] = gen.List.Template
	}
	if gen.Clusters != nil {
		set["clusters"] = gen.Clusters.Template
	}
	if gen.Git != nil {
		set["git"] = gen.Git.Template
	}
	if gen.SCMProvider != nil {
		set["scmProvider"] = gen.SCMProvider.Template
	}
	if gen.PullRequest != nil {
		set["pullRequest"] = gen.PullRequest.Template
	}
	if gen.Matrix != nil {
		set["matrix"] = gen.Matrix.Template
	}
	if gen.Merge != nil {
		set["merge"] = gen.Merge.Template
	}
	if gen.ClusterDecisionResource != nil {
		set["clusterDecisionResource"] = gen.ClusterDecisionResource.Template
	}
	if gen.Plugin != nil {
		set["plugin"] = gen.Plugin.Template
	}
	return set
}

// override is the template of a generator that has one, or nil.
func override(gen *argo.ApplicationSetGenerator) *argo.ApplicationSetTemplate {
	for _, template := range kinds(gen) {
		if template != nil {
			return template
		}
	}
	return nil
}

// nested reads a generator that is inside of a Matrix or a Merge, strictly.
func nested(raw apiextensions.JSON, at string) (*argo.ApplicationSetGenerator, *FieldError) {
	gen := &argo.ApplicationSetGenerator{}
	strict, err := kjson.UnmarshalStrict(raw.Raw, gen)
	if err == nil && len(strict) > 0 {
		err = strict[0]
	}
	if err != nil {
		path := at
		var field kjson.FieldError
		if errors.As(err, &field) && field.FieldPath() != "" {
			path += "." + field.FieldPath()
		}
		what, _, _ := strings.Cut(err.Error(), " \"")
		return nil, &FieldError{path, what}
	}
	return gen, nil
}

// list has its parameters in itself.
func (g *generation) list(gen *argo.ListGenerator) ([]Params, error) {
	var out []Params
	for i, element := range gen.Elements {
		var params Params
		if err := json.Unmarshal(element.Raw, &params); err != nil || params == nil {
			return nil, fmt.Errorf("list.elements[%d] is not an object", i)
		}
		out = append(out, params)
	}
	if gen.ElementsYaml != "" {
		more, err := parseParams([]byte(gen.ElementsYaml))
		if err != nil {
			return nil, fmt.Errorf("list.elementsYaml: %w", err)
		}
		out = append(out, more...)
	}
	return g.flattened(out), nil
}

// flattened are the sets as templates without Go templates take them.
func (g *generation) flattened(sets []Params) []Params {
	if g.set.Spec.GoTemplate {
		return sets
	}
	for i := range sets {
		sets[i] = flatten(sets[i])
	}
	return sets
}

// clusters has a set for each cluster that the selector finds.
func (g *generation) clusters(ctx context.Context, gen *argo.ClusterGenerator) ([]Params, error) {
	match, err := newSelector(&gen.Selector)
	if err != nil {
		return nil, err
	}
	all, err := g.in.Clusters(ctx)
	if err != nil {
		return nil, err
	}
	out := []Params{}
	for _, c := range all {
		if !match.empty() && !c.Secret || !match.matches(c.Labels) {
			continue
		}
		out = append(out, g.cluster(c))
	}
	if out, err = g.withValues(ctx, out, gen.Values); err != nil || !gen.FlatList {
		return out, err
	}
	list := make([]any, len(out))
	for i, params := range out {
		list[i] = params
	}
	return []Params{{"clusters": list}}, nil
}

func (g *generation) cluster(c Cluster) Params {
	params := Params{"name": c.Name, "nameNormalized": normalize(c.Name), "server": c.Server, "project": c.Project}
	if g.set.Spec.GoTemplate {
		params["metadata"] = map[string]any{"labels": anyMap(c.Labels), "annotations": anyMap(c.Annotations)}
		return params
	}
	for key, value := range c.Labels {
		params["metadata.labels."+key] = value
	}
	for key, value := range c.Annotations {
		params["metadata.annotations."+key] = value
	}
	return params
}

func anyMap(m map[string]string) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

// withValues adds a generator's values to each set, filled in with the set.
func (g *generation) withValues(ctx context.Context, sets []Params, values map[string]string) ([]Params, error) {
	if len(values) == 0 || len(sets) == 0 {
		return sets, nil
	}
	filled, err := g.fill(ctx, "values", anyMap(values), sets)
	if err != nil {
		return nil, err
	}
	for i, params := range sets {
		own, ok := filled[i].(map[string]any)
		if !ok {
			return nil, errors.New("values are no object any more")
		}
		if g.set.Spec.GoTemplate {
			params["values"] = own
			continue
		}
		for key, value := range own {
			params["values."+key] = value
		}
	}
	return sets, nil
}

// repositories has a set for each repository, or branch of one.
func (g *generation) repositories(ctx context.Context, gen *argo.SCMProviderGenerator) ([]Params, error) {
	found, err := g.in.Repositories(ctx, gen)
	if err != nil {
		return nil, err
	}
	out := make([]Params, len(found))
	for i, r := range found {
		out[i] = Params{
			"organization": r.Organization, "repository": r.Name, "repository_id": r.ID, "url": r.URL,
			"branch": r.Branch, "branchNormalized": normalize(r.Branch),
			"sha": r.SHA, "short_sha": short(r.SHA, 8), "short_sha_7": short(r.SHA, 7),
			"labels": strings.Join(r.Labels, ","),
		}
	}
	return g.withValues(ctx, out, gen.Values)
}

// pullRequests has a set for each open pull request.
func (g *generation) pullRequests(ctx context.Context, gen *argo.PullRequestGenerator) ([]Params, error) {
	found, err := g.in.PullRequests(ctx, gen)
	if err != nil {
		return nil, err
	}
	out := make([]Params, len(found))
	for i, p := range found {
		out[i] = Params{
			"number": p.Number, "title": p.Title, "author": p.Author,
			"branch": p.Branch, "branch_slug": slugify(p.Branch, slugLength, true),
			"target_branch": p.TargetBranch, "target_branch_slug": slugify(p.TargetBranch, slugLength, true),
			"head_sha": p.HeadSHA, "head_short_sha": short(p.HeadSHA, 8), "head_short_sha_7": short(p.HeadSHA, 7),
		}
		if g.set.Spec.GoTemplate {
			labels := make([]any, len(p.Labels))
			for j, label := range p.Labels {
				labels[j] = label
			}
			out[i]["labels"] = labels
		}
	}
	return g.withValues(ctx, out, gen.Values)
}

func short(sha string, n int) string { return sha[:min(n, len(sha))] }
