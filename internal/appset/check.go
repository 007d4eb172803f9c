package appset

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/intstr"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
)

// unsupported are generators that we know and do not have, with what to say.
var unsupported = map[string]string{
	"clusterDecisionResource": "the cluster decision resource generator is not supported",
	"plugin":                  "plugin generators are not supported",
}

// goOptions are the options of text/template; it panics at others.
var goOptions = []string{"missingkey=default", "missingkey=invalid", "missingkey=zero", "missingkey=error"}

// Check returns what of the set's spec is refused, field by field; nil where
// it can be generated.
func Check(set *argo.ApplicationSet) []*FieldError {
	c := &checker{}
	spec := &set.Spec
	if len(spec.Generators) == 0 {
		c.add("spec.generators", "want 1 or more")
	}
	for i := range spec.Generators {
		at := fmt.Sprintf("spec.generators[%d]", i)
		c.generator(&spec.Generators[i], at, 0)
		c.template(override(&spec.Generators[i]), set.Namespace, at)
	}
	c.template(&spec.Template, set.Namespace, "spec")
	if spec.Template.Name == "" {
		c.add("spec.template.metadata.name", "is required")
	}
	for i, option := range spec.GoTemplateOptions {
		if !slices.Contains(goOptions, option) {
			c.add(fmt.Sprintf("spec.goTemplateOptions[%d]", i), "%q is not an option; want one of %s", option, strings.Join(goOptions, ", "))
		}
	}
	if p := spec.SyncPolicy; p != nil && p.ApplicationsSync != nil {
		c.oneOf("spec.syncPolicy.applicationsSync", string(*p.ApplicationsSync), "create-only", "create-update", "create-delete", "sync")
	}
	c.strategy(spec.Strategy)
	_, problems := newIgnores(spec.IgnoreApplicationDifferences)
	return append(c.problems, problems...)
}

type checker struct{ problems []*FieldError }

func (c *checker) add(path, format string, args ...any) {
	c.problems = append(c.problems, &FieldError{path, fmt.Sprintf(format, args...)})
}

func (c *checker) oneOf(path, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		c.add(path, "%q is not known; want one of %s", value, strings.Join(allowed, ", "))
	}
}

func (c *checker) template(t *argo.ApplicationSetTemplate, namespace, at string) {
	if t != nil && t.Namespace != "" && t.Namespace != namespace && !strings.Contains(t.Namespace, "{{") {
		c.add(at+".template.metadata.namespace", "Applications are made in the ApplicationSet's namespace, %q", namespace)
	}
}

func (c *checker) strategy(s *argo.ApplicationSetStrategy) {
	if s == nil {
		return
	}
	c.oneOf("spec.strategy.type", s.Type, "", argo.StrategyAllAtOnce, argo.StrategyRollingSync)
	if s.DeletionOrder != "" && s.DeletionOrder != argo.StrategyAllAtOnce {
		c.add("spec.strategy.deletionOrder", "%q is not supported; Applications are deleted all at once", s.DeletionOrder)
	}
	if s.RollingSync == nil {
		if s.Type == argo.StrategyRollingSync {
			c.add("spec.strategy.rollingSync", "is required for type RollingSync")
		}
		return
	}
	for i, step := range s.RollingSync.Steps {
		at := fmt.Sprintf("spec.strategy.rollingSync.steps[%d]", i)
		for j, e := range step.MatchExpressions {
			c.oneOf(fmt.Sprintf("%s.matchExpressions[%d].operator", at, j), e.Operator, "In", "NotIn")
		}
		if step.MaxUpdate != nil {
			if n, err := intstr.GetScaledValueFromIntOrPercent(step.MaxUpdate, 100, false); err != nil || n < 0 {
				c.add(at+".maxUpdate", "%q is neither a number nor a percentage", step.MaxUpdate.String())
			}
		}
	}
}

// checkGenerator is the first problem of a generator that was filled in.
func checkGenerator(gen *argo.ApplicationSetGenerator, at string, depth int) error {
	c := &checker{}
	c.one(gen, at, depth)
	if depth > 0 && override(gen) != nil {
		c.add(at+".template", "a template of a nested generator is not supported")
	}
	if len(c.problems) > 0 {
		return c.problems[0]
	}
	return nil
}

// generator checks a generator and, as far as they can be read before they are
// filled in, those in it.
func (c *checker) generator(gen *argo.ApplicationSetGenerator, at string, depth int) {
	c.one(gen, at, depth)
	if depth > 0 && override(gen) != nil {
		c.add(at+".template", "a template of a nested generator is not supported")
	}
	if depth >= maxNesting {
		return
	}
	if gen.Matrix != nil {
		if len(gen.Matrix.Generators) != 2 {
			c.add(at+".matrix.generators", "there are %d, want 2", len(gen.Matrix.Generators))
		}
		c.nested(gen.Matrix.Generators, at+".matrix", depth)
	}
	if gen.Merge != nil {
		if len(gen.Merge.Generators) < 2 {
			c.add(at+".merge.generators", "want 2 or more")
		}
		if len(gen.Merge.MergeKeys) == 0 {
			c.add(at+".merge.mergeKeys", "want 1 or more")
		}
		c.nested(gen.Merge.Generators, at+".merge", depth)
	}
}

func (c *checker) nested(raws []apiextensions.JSON, at string, depth int) {
	for i, raw := range raws {
		path := fmt.Sprintf("%s.generators[%d]", at, i)
		gen, err := nested(raw, path)
		if err != nil {
			c.problems = append(c.problems, err)
			continue
		}
		c.generator(gen, path, depth+1)
	}
}

// one checks the generator itself.
func (c *checker) one(gen *argo.ApplicationSetGenerator, at string, depth int) {
	set := kinds(gen)
	if len(set) != 1 {
		c.add(at, "has %d kinds of generator, want 1", len(set))
		return
	}
	for kind := range set {
		if problem, no := unsupported[kind]; no {
			c.add(at+"."+kind, "%s", problem)
		}
	}
	if depth >= maxNesting && (gen.Matrix != nil || gen.Merge != nil) {
		c.add(at, "Matrix and Merge can be nested once")
	}
	if gen.Git != nil {
		c.git(gen.Git, at+".git")
	}
	if gen.SCMProvider != nil {
		c.scm(gen.SCMProvider, at+".scmProvider")
	}
	if gen.PullRequest != nil {
		c.pullRequest(gen.PullRequest, at+".pullRequest")
	}
}

func (c *checker) git(gen *argo.GitGenerator, at string) {
	if gen.RepoURL == "" {
		c.add(at+".repoURL", "is required")
	}
	if (len(gen.Directories) > 0) == (len(gen.Files) > 0) {
		c.add(at, "want either directories or files")
	}
}

func (c *checker) scm(gen *argo.SCMProviderGenerator, at string) {
	switch {
	case gen.AzureDevOps != nil:
		c.add(at+".azureDevOps", "Azure DevOps is not supported")
	case gen.AWSCodeCommit != nil:
		c.add(at+".awsCodeCommit", "AWS CodeCommit is not supported")
	case gen.Github != nil && gen.Github.AppSecretName != "":
		c.add(at+".github.appSecretName", "GitHub Apps are not supported; use tokenRef")
	}
	if n := count(gen.Github != nil, gen.Gitlab != nil, gen.Gitea != nil, gen.Bitbucket != nil, gen.BitbucketServer != nil, gen.AzureDevOps != nil, gen.AWSCodeCommit != nil); n != 1 {
		c.add(at, "has %d providers, want 1", n)
	}
	c.oneOf(at+".cloneProtocol", gen.CloneProtocol, "", "ssh", "https")
}

func (c *checker) pullRequest(gen *argo.PullRequestGenerator, at string) {
	switch {
	case gen.AzureDevOps != nil:
		c.add(at+".azuredevops", "Azure DevOps is not supported")
	case gen.Github != nil && gen.Github.AppSecretName != "":
		c.add(at+".github.appSecretName", "GitHub Apps are not supported; use tokenRef")
	}
	if n := count(gen.Github != nil, gen.GitLab != nil, gen.Gitea != nil, gen.Bitbucket != nil, gen.BitbucketServer != nil, gen.AzureDevOps != nil); n != 1 {
		c.add(at, "has %d providers, want 1", n)
	}
}

func count(flags ...bool) (n int) {
	for _, f := range flags {
		if f {
			n++
		}
	}
	return n
}
