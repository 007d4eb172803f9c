package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/appset"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/core/problem"
)

// maxManifest bounds an ApplicationSet that is sent to be previewed.
const maxManifest = 1 << 20

// SetPreview is what an ApplicationSet would do.
type SetPreview struct {
	Items []SetPreviewItem `json:"items"`
}

// SetPreviewItem is one Application of it.
type SetPreviewItem struct {
	Action appset.Action `json:"action"`
	Name   string        `json:"name"`
	// Reason says why nothing is done where something should.
	Reason string                     `json:"reason,omitempty"`
	Wanted *unstructured.Unstructured `json:"wanted,omitempty"`
	Live   *unstructured.Unstructured `json:"live,omitempty"`
}

// previewRoute is where ApplicationSets are previewed: POST the manifest, in
// JSON. Who asks needs to be allowed to create the ApplicationSet, and to
// update it where it is there: its generators run with what the server may
// read.
const previewRoute = "POST /api/v1/applicationsets/{namespace}/{name}/preview"

func (r *applicationSets) servePreview(w http.ResponseWriter, req *http.Request) {
	answer, err := r.answerPreview(w, req)
	if err != nil {
		problem.Write(w, req, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	// The client is gone where this fails.
	_ = json.NewEncoder(w).Encode(answer)
}

func (r *applicationSets) answerPreview(w http.ResponseWriter, req *http.Request) (*SetPreview, error) {
	if r.stages.Access == nil {
		return nil, errNoAccess
	}
	user, err := r.stages.Access.Authenticate(req)
	if err != nil {
		return nil, err
	}
	key := types.NamespacedName{Namespace: req.PathValue("namespace"), Name: req.PathValue("name")}
	may := func(verb string) error {
		return r.stages.Access.Authorize(req.Context(), user, core.Action{
			Verb: verb, Group: argo.Group, Resource: "applicationsets", Namespace: key.Namespace, Name: key.Name,
		})
	}
	if err := may("create"); err != nil {
		return nil, err
	}
	u := &unstructured.Unstructured{}
	if err := json.NewDecoder(http.MaxBytesReader(w, req.Body, maxManifest)).Decode(&u.Object); err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return nil, &core.TooLargeError{What: "the ApplicationSet", Size: large.Limit + 1, Limit: large.Limit}
		}
		return nil, problem.New(http.StatusBadRequest, "the request is not understood: %s", err)
	}
	if u.GetKind() != argo.ApplicationSetKind || u.GroupVersionKind().Group != argo.Group || u.GetName() != key.Name {
		return nil, problem.New(http.StatusBadRequest, "want the %s %s of group %s", argo.ApplicationSetKind, key.Name, argo.Group)
	}
	live := &unstructured.Unstructured{}
	live.SetGroupVersionKind(argo.GroupVersion.WithKind(argo.ApplicationSetKind))
	err = r.reader.Get(req.Context(), key, live)
	switch {
	case err == nil:
		if err := may("update"); err != nil {
			return nil, err
		}
	case apierrors.IsNotFound(err):
		live = nil
	default:
		return nil, fmt.Errorf("get ApplicationSet %s: %w", key, err)
	}
	return r.Preview(req.Context(), key, u, live)
}

// Preview says what would be done if the ApplicationSet were applied in place
// of live, which is nil where there is none. Nothing is written. Errors are for
// who asks: what is refused, and what could not be generated.
func (r *applicationSets) Preview(ctx context.Context, key types.NamespacedName, u, live *unstructured.Unstructured) (*SetPreview, error) {
	u = u.DeepCopy()
	u.SetNamespace(key.Namespace)
	u.SetUID("")
	if live != nil {
		u.SetUID(live.GetUID())
	}
	set, err := readApplicationSet(u, r.opts.ArgoNamespace)
	if err != nil {
		return nil, err
	}
	run := &setRun{applicationSets: r, setMemory: &setMemory{}, key: key, object: u, set: set}
	in := &setInputs{applicationSets: r, set: set, fetch: true}
	if run.wanted, err = appset.Generate(ctx, set, in, run.templates(), appset.Limits{}); err != nil {
		return nil, problem.With(http.StatusUnprocessableEntity, err)
	}
	there, err := run.live(ctx)
	if err != nil {
		return nil, err
	}
	plan, err := appset.Plan(set, appset.Manual(set, run.wanted), there)
	if err != nil {
		return nil, problem.With(http.StatusUnprocessableEntity, err)
	}
	out := &SetPreview{Items: []SetPreviewItem{}}
	for _, c := range plan {
		out.Items = append(out.Items, SetPreviewItem{Action: c.Action, Name: c.Name, Reason: c.Reason, Wanted: shown(c.Wanted), Live: shown(c.Live)})
	}
	return out, nil
}

// shown is an Application as a preview has it: what a set writes of it.
func shown(app *unstructured.Unstructured) *unstructured.Unstructured {
	if app == nil {
		return nil
	}
	out := newApplicationObject(app.GetNamespace(), app.GetName())
	out.SetLabels(app.GetLabels())
	out.SetAnnotations(app.GetAnnotations())
	out.SetFinalizers(app.GetFinalizers())
	out.Object["spec"] = app.Object["spec"]
	return out
}
