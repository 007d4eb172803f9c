package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// ApplicationSetKind is the kind of an ApplicationSet.
const ApplicationSetKind = "ApplicationSet"

// AnnotationSetRefresh asks for a refresh of an ApplicationSet: "true".
const AnnotationSetRefresh = "argocd.argoproj.io/application-set-refresh"

// ApplicationSet makes Applications of a template, one for each set of
// parameters that its generators find.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=applicationsets,shortName=appset;appsets
// +kubebuilder:subresource:status
type ApplicationSet struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              ApplicationSetSpec   `json:"spec"`
	Status            ApplicationSetStatus `json:"status,omitempty"`
}

// ApplicationSetList is a list of ApplicationSets.
//
// +kubebuilder:object:root=true
type ApplicationSetList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []ApplicationSet `json:"items"`
}

// ApplicationSetSpec says which Applications are made.
type ApplicationSetSpec struct {
	// GoTemplate has the template's strings be Go templates; otherwise
	// {{NAME}} is replaced.
	GoTemplate bool                      `json:"goTemplate,omitempty"`
	Generators []ApplicationSetGenerator `json:"generators"`
	Template   ApplicationSetTemplate    `json:"template"`
	SyncPolicy *ApplicationSetSyncPolicy `json:"syncPolicy,omitempty"`
	Strategy   *ApplicationSetStrategy   `json:"strategy,omitempty"`
	// PreservedFields are labels and annotations of Applications that are left
	// as they are.
	PreservedFields *ApplicationPreservedFields `json:"preservedFields,omitempty"`
	// GoTemplateOptions are text/template's ("missingkey=error").
	GoTemplateOptions []string `json:"goTemplateOptions,omitempty"`
	// ApplyNestedSelectors is known: selectors of nested generators always hold.
	ApplyNestedSelectors         bool                       `json:"applyNestedSelectors,omitempty"`
	IgnoreApplicationDifferences []ApplicationSetIgnoreDiff `json:"ignoreApplicationDifferences,omitempty"`
	// TemplatePatch is a template of a patch, in YAML or JSON, of each
	// Application.
	TemplatePatch *string `json:"templatePatch,omitempty"`
}

// ApplicationSetTemplate is the Application to be made.
type ApplicationSetTemplate struct {
	ApplicationSetTemplateMeta `json:"metadata"`
	Spec                       ApplicationSpec `json:"spec"`
}

// ApplicationSetTemplateMeta is what can be set of an Application's metadata.
type ApplicationSetTemplateMeta struct {
	Name        string            `json:"name,omitempty"`
	Namespace   string            `json:"namespace,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Finalizers  []string          `json:"finalizers,omitempty"`
}

// ApplicationSetSyncPolicy says what may be done to Applications.
type ApplicationSetSyncPolicy struct {
	// PreserveResourcesOnDeletion leaves what an Application has deployed when
	// the Application is deleted.
	PreserveResourcesOnDeletion bool `json:"preserveResourcesOnDeletion,omitempty"`
	// ApplicationsSync is what may be done: default sync.
	//
	// +kubebuilder:validation:Enum=create-only;create-update;create-delete;sync
	ApplicationsSync *ApplicationsSyncPolicy `json:"applicationsSync,omitempty"`
}

// ApplicationsSyncPolicy is what may be done to Applications.
type ApplicationsSyncPolicy string

// The policies.
const (
	ApplicationsSyncCreateOnly   ApplicationsSyncPolicy = "create-only"
	ApplicationsSyncCreateUpdate ApplicationsSyncPolicy = "create-update"
	ApplicationsSyncCreateDelete ApplicationsSyncPolicy = "create-delete"
	ApplicationsSyncSync         ApplicationsSyncPolicy = "sync"
)

// AllowUpdate says whether Applications may be changed.
func (p *ApplicationSetSyncPolicy) AllowUpdate() bool {
	v := p.policy()
	return v == ApplicationsSyncSync || v == ApplicationsSyncCreateUpdate
}

// AllowDelete says whether Applications may be deleted.
func (p *ApplicationSetSyncPolicy) AllowDelete() bool {
	v := p.policy()
	return v == ApplicationsSyncSync || v == ApplicationsSyncCreateDelete
}

func (p *ApplicationSetSyncPolicy) policy() ApplicationsSyncPolicy {
	if p == nil || p.ApplicationsSync == nil {
		return ApplicationsSyncSync
	}
	return *p.ApplicationsSync
}

// ApplicationSetStrategy says in which order Applications are synced.
type ApplicationSetStrategy struct {
	// Type is AllAtOnce (default) or RollingSync.
	Type        string                 `json:"type,omitempty"`
	RollingSync *ApplicationSetRollout `json:"rollingSync,omitempty"`
	// DeletionOrder is AllAtOnce (default) or Reverse.
	DeletionOrder string `json:"deletionOrder,omitempty"`
}

// The strategies, and the orders of deletion.
const (
	StrategyAllAtOnce   = "AllAtOnce"
	StrategyRollingSync = "RollingSync"
	DeletionReverse     = "Reverse"
)

// ApplicationSetRollout are the steps of a RollingSync.
type ApplicationSetRollout struct {
	Steps []ApplicationSetRolloutStep `json:"steps,omitempty"`
}

// ApplicationSetRolloutStep selects Applications by their labels.
type ApplicationSetRolloutStep struct {
	MatchExpressions []ApplicationMatchExpression `json:"matchExpressions,omitempty"`
	// MaxUpdate is how many are synced at a time: a number, or a percentage of
	// the step's Applications; default all.
	MaxUpdate *intstr.IntOrString `json:"maxUpdate,omitempty"`
}

// ApplicationMatchExpression is one condition on labels.
type ApplicationMatchExpression struct {
	Key string `json:"key,omitempty"`
	// Operator is In or NotIn.
	Operator string   `json:"operator,omitempty"`
	Values   []string `json:"values,omitempty"`
}

// ApplicationPreservedFields are left as they are.
type ApplicationPreservedFields struct {
	Annotations []string `json:"annotations,omitempty"`
	Labels      []string `json:"labels,omitempty"`
}

// ApplicationSetIgnoreDiff names fields of Applications that are left as they
// are.
type ApplicationSetIgnoreDiff struct {
	// Name is of the Application; empty is all.
	Name              string   `json:"name,omitempty"`
	JSONPointers      []string `json:"jsonPointers,omitempty"`
	JQPathExpressions []string `json:"jqPathExpressions,omitempty"`
}
