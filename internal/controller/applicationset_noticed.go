package controller

import (
	"strings"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
)

// forgeDep stands for what a set asks a forge about: a repository, or with "*"
// all of an organisation or of the forge. It is no URL.
const forgeDep = "forge "

func dependsOnForge(kind, repository string) string {
	return forgeDep + kind + " " + strings.ToLower(repository)
}

// pullRequestDeps are the repository of a generator, as webhooks name it.
func pullRequestDeps(gen *argo.PullRequestGenerator) []string {
	switch {
	case gen.Github != nil:
		return []string{dependsOnForge("github", gen.Github.Owner+"/"+gen.Github.Repo)}
	case gen.Gitea != nil:
		return []string{dependsOnForge("gitea", gen.Gitea.Owner+"/"+gen.Gitea.Repo)}
	case gen.GitLab != nil && strings.Contains(gen.GitLab.Project, "/"):
		return []string{dependsOnForge("gitlab", gen.GitLab.Project)}
	case gen.GitLab != nil: // a number, which the webhook's address has not
		return []string{dependsOnForge("gitlab", "*")}
	}
	return nil
}

// repositoryDeps are the organisation of a generator.
func repositoryDeps(gen *argo.SCMProviderGenerator) []string {
	switch {
	case gen.Github != nil:
		return []string{dependsOnForge("github", gen.Github.Organization+"/*")}
	case gen.Gitea != nil:
		return []string{dependsOnForge("gitea", gen.Gitea.Owner+"/*")}
	case gen.Gitlab != nil:
		return []string{dependsOnForge("gitlab", gen.Gitlab.Group+"/*")}
	}
	return nil
}

// ForgeNoticed wakes the ApplicationSets that ask a forge about the repository:
// something has come to it, a pull request perhaps, that is no push. The kind
// is a webhook's, github, gitlab or gitea; the repository is "OWNER/NAME". It
// does not block.
func (e *Engine) ForgeNoticed(kind, repository string) {
	name := dependsOnForge(kind, strings.TrimSuffix(repository, ".git"))
	for _, key := range e.sets.bySource.on(func(dep string) bool { return strings.HasPrefix(dep, forgeDep) && includesRepository(dep, name) }) {
		e.sets.wake.wake(key, sourceMoved|timerFired)
	}
}

// includesRepository says whether the dependency is on the repository: subgroups
// are part of a group.
func includesRepository(dep, name string) bool {
	if all, ok := strings.CutSuffix(dep, "*"); ok {
		return strings.HasPrefix(name, all)
	}
	return dep == name
}
