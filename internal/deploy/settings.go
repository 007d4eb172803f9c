package deploy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/mark"
)

// Argo CD's annotations on objects.
const (
	annotationSyncOptions    = "argocd.argoproj.io/sync-options"
	annotationCompareOptions = "argocd.argoproj.io/compare-options"
	annotationWave           = "argocd.argoproj.io/sync-wave"
	annotationHelmWeight     = "helm.sh/hook-weight"
)

// settings are an object's own, over those of its delivery.
type settings struct {
	keep, confirmPrune       bool // Prune=false, Prune=confirm
	keepOnDelete             bool
	confirmDelete            bool
	pruneLast                bool
	replace, force           bool
	skipValidate             bool
	skipDryRunMissing        bool
	ignoreExtraneous         bool
	merge, absentOnly, leave bool // Flux' ssa: Merge, IfNotPresent, Ignore
	wave                     int
}

// settingsOf reads an object's annotations. A value that we do not know is
// refused by name.
func settingsOf(owner core.Owner, obj *unstructured.Unstructured, o Options) (settings, error) {
	s := settings{
		pruneLast: o.PruneLast, replace: o.Replace, force: o.Force,
		skipValidate: o.SkipValidate, skipDryRunMissing: o.SkipDryRunOnMissingResource,
		keep: o.KeepOnPrune, keepOnDelete: o.KeepOnDelete,
		confirmPrune: o.ConfirmPrune, confirmDelete: o.ConfirmDelete,
	}
	if owner.Dialect == core.Flux {
		return s, s.readFlux(obj)
	}
	return s, s.readArgo(obj)
}

func (s *settings) readArgo(obj *unstructured.Unstructured) error {
	a := obj.GetAnnotations()
	for _, opt := range split(a[annotationSyncOptions]) {
		if err := s.syncOption(opt); err != nil {
			return err
		}
	}
	for _, opt := range split(a[annotationCompareOptions]) {
		switch opt {
		case "IgnoreExtraneous", "IgnoreExtraneous=true":
			s.ignoreExtraneous = true
		case "IgnoreExtraneous=false", "ServerSideDiff=true", "IncludeMutationWebhook=true":
			// Comparisons are by the API server's dry-run, webhooks included.
		default:
			return &optionError{Annotation: annotationCompareOptions, Value: opt}
		}
	}
	return s.readWave(a)
}

func (s *settings) readWave(a map[string]string) error {
	key := annotationWave
	v, ok := a[key]
	if !ok {
		if key = annotationHelmWeight; a["helm.sh/hook"] == "" {
			return nil
		}
		if v, ok = a[key]; !ok {
			return nil
		}
	}
	wave, err := strconv.Atoi(strings.TrimSpace(v))
	if err != nil {
		return &optionError{Annotation: key, Value: v}
	}
	s.wave = wave
	return nil
}

func (s *settings) syncOption(opt string) error {
	name, value, _ := strings.Cut(opt, "=")
	on := value == "true"
	flags := map[string]*bool{
		"PruneLast": &s.pruneLast, "Replace": &s.replace, "Force": &s.force,
		"SkipDryRunOnMissingResource": &s.skipDryRunMissing,
	}
	if f, ok := flags[name]; ok && (on || value == "false") {
		*f = on
		return nil
	}
	switch opt {
	case "Prune=true", "Prune=false", "Prune=confirm":
		// The object's own word wins over the delivery's.
		s.keep, s.confirmPrune = value == "false", value == "confirm"
	case "Delete=true", "Delete=false", "Delete=confirm":
		s.keepOnDelete, s.confirmDelete = value == "false", value == "confirm"
	case "Validate=true", "Validate=false":
		s.skipValidate = !on
	case "ServerSideApply=true", "ServerSideApply=false",
		"ClientSideApplyMigration=true", "ClientSideApplyMigration=false":
		// All is applied server-side, and what was applied client-side before
		// is migrated: a client-side apply has no better answer to anything.
	default:
		return &optionError{Annotation: annotationSyncOptions, Value: opt}
	}
	return nil
}

func (s *settings) readFlux(obj *unstructured.Unstructured) error {
	switch v := mark.FluxSetting(obj, "ssa"); strings.ToLower(v) {
	case "", "override":
	case "merge":
		s.merge = true
	case "ifnotpresent":
		s.absentOnly = true
	case "ignore":
		s.leave = true
	default:
		return &optionError{Annotation: string(core.Flux) + "/ssa", Value: v}
	}
	for name, f := range map[string]func(on bool){
		"force":     func(on bool) { s.force = s.force || on },
		"prune":     func(on bool) { s.keep = s.keep || !on },
		"reconcile": func(on bool) { s.leave = s.leave || !on },
	} {
		switch v := mark.FluxSetting(obj, name); strings.ToLower(v) {
		case "":
		case "enabled":
			f(true)
		case "disabled":
			f(false)
		default:
			return &optionError{Annotation: string(core.Flux) + "/" + name, Value: v}
		}
	}
	return nil
}

// split reads a comma-separated annotation.
func split(s string) []string {
	parts := strings.Split(s, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return slices.DeleteFunc(parts, func(p string) bool { return p == "" })
}

// optionError says that an object asks for something that we do not do.
type optionError struct{ Annotation, Value string }

func (e *optionError) Error() string {
	return fmt.Sprintf("annotation %s: %q is not supported", e.Annotation, e.Value)
}
