package controller

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/deploy"
)

// unsupportedApplication are the fields of an Application that we know and do
// not do, with what to say.
var unsupportedApplication = map[string]string{
	"spec.sourceHydrator":                     "the source hydrator is not supported",
	"spec.source.plugin":                      "config management plugins are not supported",
	"spec.sources.*.plugin":                   "config management plugins are not supported",
	"spec.source.kustomize.version":           "choosing a kustomize version is not supported",
	"spec.sources.*.kustomize.version":        "choosing a kustomize version is not supported",
	"spec.source.kustomize.patches.*.path":    "a patch by path is not supported, give it inline",
	"spec.sources.*.kustomize.patches.*.path": "a patch by path is not supported, give it inline",
	"spec.source.kustomize.kubeVersion":       "kustomize's Helm support is not supported",
	"spec.sources.*.kustomize.kubeVersion":    "kustomize's Helm support is not supported",
	"spec.source.kustomize.apiVersions":       "kustomize's Helm support is not supported",
	"spec.sources.*.kustomize.apiVersions":    "kustomize's Helm support is not supported",
	"spec.source.helm.passCredentials":        "passing credentials to other hosts is not supported",
	"spec.sources.*.helm.passCredentials":     "passing credentials to other hosts is not supported",
	"operation.sync.manifests":                "syncing local manifests is not supported",
	"operation.sync.source":                   "syncing another source is not supported",
	"operation.sync.sources":                  "syncing other sources is not supported",
}

// readApplication reads the object, strictly: the error is a *SpecError that
// names each field that is unknown or not supported. The Application is
// returned even then, with what could be read.
func readApplication(u *unstructured.Unstructured) (*argo.Application, error) {
	app := &argo.Application{}
	app.SetName(u.GetName())
	app.SetNamespace(u.GetNamespace())
	app.SetAnnotations(u.GetAnnotations())
	app.SetFinalizers(u.GetFinalizers())
	app.SetUID(u.GetUID())
	app.SetResourceVersion(u.GetResourceVersion())
	app.SetDeletionTimestamp(u.GetDeletionTimestamp())
	refused := &SpecError{}
	for field, into := range map[string]any{"spec": &app.Spec, "operation": &app.Operation, "status": &app.Status} {
		data, err := json.Marshal(u.Object[field])
		if err != nil {
			return app, fmt.Errorf("encode %s: %w", field, err)
		}
		// What others have written into the status is no mistake of the user's.
		if err := decodeStrict(data, field, into); err != nil && field != "status" {
			refused.absorb(err)
		}
	}
	refuseUnsupported(u.Object, unsupportedApplication, refused)
	return app, refused.orNil()
}

// applicationDelivery is the model of the Application. The error is a
// *SpecError.
func applicationDelivery(app *argo.Application, caps capabilities) (*delivery, error) {
	refused := &SpecError{}
	d := &delivery{
		owner: core.Owner{Dialect: core.ArgoCD, Kind: argo.ApplicationKind, Namespace: app.Namespace, Name: app.Name},
		pin:   readPin(app.Annotations),
	}
	checkDestination(app.Spec.Destination, refused)
	d.options = applicationOptions(app, refused)
	sources, path := app.Spec.Sources, func(i int) string { return fmt.Sprintf("spec.sources[%d]", i) }
	if len(sources) == 0 && app.Spec.Source != nil {
		sources, path = []argo.ApplicationSource{*app.Spec.Source}, func(int) string { return "spec.source" }
	}
	if len(sources) == 0 {
		refused.add("spec.source", "a source is required")
	}
	for i, s := range sources {
		d.sources = append(d.sources, applicationSource(app, s, path(i), caps, refused))
	}
	d.params = applicationParams(app)
	d.decryption.project = projectName(app)
	return d, refused.orNil()
}

// applicationParams is a digest of what the spec asks for.
func applicationParams(app *argo.Application) string {
	spec := app.Spec.DeepCopy()
	spec.Info, spec.RevisionHistoryLimit = nil, nil
	if spec.SyncPolicy != nil {
		// How often to retry changes nothing of what is delivered.
		spec.SyncPolicy.Retry, spec.SyncPolicy.Automated = nil, nil
	}
	return digest(spec)
}

// digest is the SHA-256 of v in JSON.
func digest(v any) string {
	h := sha256.New()
	// Plain data always encode.
	if err := json.NewEncoder(h).Encode(v); err != nil {
		panic(fmt.Sprintf("controller: encode %T: %v", v, err))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// applicationOptions are the options of the Application's sync policy.
func applicationOptions(app *argo.Application, refused *SpecError) deploy.Options {
	o := deploy.Options{
		Namespace:        app.Spec.Destination.Namespace,
		WaitBetweenWaves: true,
	}
	for _, i := range app.Spec.IgnoreDifferences {
		o.IgnoreDifferences = append(o.IgnoreDifferences, deploy.IgnoreDifference{
			Group: i.Group, Kind: i.Kind, Namespace: i.Namespace, Name: i.Name,
			JSONPointers: i.JSONPointers, JQPaths: i.JQPathExpressions, Managers: i.ManagedFieldsManagers,
		})
	}
	policy := app.Spec.SyncPolicy
	if policy == nil {
		return o
	}
	if m := policy.ManagedNamespaceMetadata; m != nil {
		o.NamespaceLabels, o.NamespaceAnnotations = m.Labels, m.Annotations
	}
	if a := policy.Automated; a != nil {
		o.Prune, o.AllowEmpty = a.Prune, a.AllowEmpty
	}
	applySyncOptions(&o, policy.SyncOptions, "spec.syncPolicy.syncOptions", refused)
	return o
}

// applySyncOptions sets what the NAME=VALUE list asks for.
func applySyncOptions(o *deploy.Options, list []string, path string, refused *SpecError) {
	flags := map[string]*bool{
		"CreateNamespace":             &o.CreateNamespace,
		"PruneLast":                   &o.PruneLast,
		"SkipDryRunOnMissingResource": &o.SkipDryRunOnMissingResource,
		"ApplyOutOfSyncOnly":          &o.ApplyOutOfSyncOnly,
		"Replace":                     &o.Replace,
		"Force":                       &o.Force,
		"FailOnSharedResource":        &o.FailOnSharedResource,
		"RespectIgnoreDifferences":    &o.RespectIgnoreDifferences,
	}
	for i, option := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		name, value, found := strings.Cut(strings.TrimSpace(option), "=")
		if !found {
			refused.add(at, "%q is not NAME=VALUE", option)
			continue
		}
		on, err := strconv.ParseBool(value)
		switch flag := flags[name]; {
		case name == "Prune" && (err == nil || value == "confirm"):
			o.KeepOnPrune, o.ConfirmPrune = value == "false", value == "confirm"
		case name == "Delete" && (err == nil || value == "confirm"):
			o.KeepOnDelete, o.ConfirmDelete = value == "false", value == "confirm"
		case name == "PrunePropagationPolicy" && (value == "foreground" || value == "background" || value == "orphan"):
			o.PropagationPolicy = value
		case err != nil:
			refused.add(at, "%q is not supported", option)
		case flag != nil:
			*flag = on
		case name == "Validate":
			o.SkipValidate = !on
		case name == "ServerSideApply", name == "ClientSideApplyMigration":
			// We always apply on the server's side and always migrate.
		default:
			refused.add(at, "%q is not supported", option)
		}
	}
}
