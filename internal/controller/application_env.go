package controller

import (
	"fmt"
	"maps"
	"os"
	"strings"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
)

// revisionVariable and those that start with it are other ones with each
// commit, and so would be the objects.
const revisionVariable = "ARGOCD_APP_REVISION"

// buildEnv are the variables that Argo CD puts in some fields of a source, in
// the form $NAME or ${NAME} (reposerver/repository, newEnv). There a variable
// that it does not know is empty, and $$ is a dollar.
type buildEnv struct {
	values  map[string]string
	refused *SpecError
}

func newBuildEnv(app *argo.Application, s argo.ApplicationSource, refused *SpecError) buildEnv {
	return buildEnv{refused: refused, values: map[string]string{
		"$":                                 "$",
		"ARGOCD_APP_NAME":                   app.Name,
		"ARGOCD_APP_NAMESPACE":              app.Spec.Destination.Namespace,
		"ARGOCD_APP_PROJECT_NAME":           projectName(app),
		"ARGOCD_APP_SOURCE_REPO_URL":        s.RepoURL,
		"ARGOCD_APP_SOURCE_PATH":            s.Path,
		"ARGOCD_APP_SOURCE_TARGET_REVISION": s.TargetRevision,
	}}
}

// expand puts the variables in text, which is the field at.
func (e buildEnv) expand(text, at string) string {
	return os.Expand(text, func(name string) string {
		if strings.HasPrefix(name, revisionVariable) {
			e.refused.add(at, "$%s is not supported: each commit would change the objects", name)
		}
		return e.values[name]
	})
}

// expandMap returns m with the variables in its values.
func (e buildEnv) expandMap(m map[string]string, at string) map[string]string {
	out := maps.Clone(m)
	for name, text := range m {
		out[name] = e.expand(text, fmt.Sprintf("%s.%s", at, name))
	}
	return out
}
