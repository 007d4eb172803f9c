package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ApplicationStatus is what was last seen of an Application.
type ApplicationStatus struct {
	// Resources are the objects of the Application: what is wanted, and what
	// was applied and is to be pruned. They are our inventory.
	Resources            []ResourceStatus       `json:"resources,omitempty"`
	Sync                 SyncStatus             `json:"sync,omitempty"`
	Health               AppHealthStatus        `json:"health,omitempty"`
	History              []RevisionHistory      `json:"history,omitempty"`
	Conditions           []ApplicationCondition `json:"conditions,omitempty"`
	ReconciledAt         *metav1.Time           `json:"reconciledAt,omitempty"`
	OperationState       *OperationState        `json:"operationState,omitempty"`
	ObservedAt           *metav1.Time           `json:"observedAt,omitempty"`
	SourceType           string                 `json:"sourceType,omitempty"`
	Summary              ApplicationSummary     `json:"summary,omitempty"`
	ResourceHealthSource string                 `json:"resourceHealthSource,omitempty"`
	SourceTypes          []string               `json:"sourceTypes,omitempty"`
	ControllerNamespace  string                 `json:"controllerNamespace,omitempty"`
	// Delivered is of the last sync that brought everything. It is ours.
	Delivered *Delivered `json:"delivered,omitempty"`
}

// Delivered says what was brought to the cluster, from what, when, and how long
// each step took.
type Delivered struct {
	Revision  string   `json:"revision,omitempty"`
	Revisions []string `json:"revisions,omitempty"`
	// Inputs is the digest of all that was rendered: what was asked for, and the
	// files that were read. Objects is that of the objects that came of it.
	Inputs     string        `json:"inputs"`
	Objects    string        `json:"objects"`
	RenderedAt metav1.Time   `json:"renderedAt"`
	AppliedAt  metav1.Time   `json:"appliedAt"`
	Took       DeliverySteps `json:"took"`
}

// DeliverySteps are the steps of a delivery.
type DeliverySteps struct {
	Render metav1.Duration `json:"render"`
	Apply  metav1.Duration `json:"apply"`
	// Wait is for waves, hooks and prunes.
	Wait metav1.Duration `json:"wait"`
}

// SyncStatusCode is how an Application or an object stands to its source.
type SyncStatusCode string

// The sync statuses.
const (
	SyncUnknown   SyncStatusCode = "Unknown"
	SyncSynced    SyncStatusCode = "Synced"
	SyncOutOfSync SyncStatusCode = "OutOfSync"
)

// SyncStatus is how the cluster stands to the source.
type SyncStatus struct {
	Status     SyncStatusCode `json:"status"`
	ComparedTo *ComparedTo    `json:"comparedTo,omitempty"`
	Revision   string         `json:"revision,omitempty"`
	Revisions  []string       `json:"revisions,omitempty"`
}

// ComparedTo is what the status was found out for.
type ComparedTo struct {
	Source            *ApplicationSource     `json:"source,omitempty"`
	Destination       ApplicationDestination `json:"destination"`
	Sources           []ApplicationSource    `json:"sources,omitempty"`
	IgnoreDifferences []ResourceIgnoreDiff   `json:"ignoreDifferences,omitempty"`
}

// HealthStatus is how well an object does.
type HealthStatus struct {
	Status             string       `json:"status,omitempty"`
	Message            string       `json:"message,omitempty"`
	LastTransitionTime *metav1.Time `json:"lastTransitionTime,omitempty"`
}

// AppHealthStatus is how well an Application does: as its worst object.
type AppHealthStatus struct {
	Status             string       `json:"status,omitempty"`
	Message            string       `json:"message,omitempty"`
	LastTransitionTime *metav1.Time `json:"lastTransitionTime,omitempty"`
}

// ResourceStatus is one object of an Application.
type ResourceStatus struct {
	Group                        string         `json:"group,omitempty"`
	Version                      string         `json:"version,omitempty"`
	Kind                         string         `json:"kind,omitempty"`
	Namespace                    string         `json:"namespace,omitempty"`
	Name                         string         `json:"name,omitempty"`
	Status                       SyncStatusCode `json:"status,omitempty"`
	Health                       *HealthStatus  `json:"health,omitempty"`
	Hook                         bool           `json:"hook,omitempty"`
	RequiresPruning              bool           `json:"requiresPruning,omitempty"`
	SyncWave                     int64          `json:"syncWave,omitempty"`
	RequiresDeletionConfirmation bool           `json:"requiresDeletionConfirmation,omitempty"`
}

// RevisionHistory is one successful sync.
type RevisionHistory struct {
	Revision        string              `json:"revision,omitempty"`
	DeployedAt      metav1.Time         `json:"deployedAt"`
	ID              int64               `json:"id"`
	Source          ApplicationSource   `json:"source,omitempty"`
	DeployStartedAt *metav1.Time        `json:"deployStartedAt,omitempty"`
	Sources         []ApplicationSource `json:"sources,omitempty"`
	Revisions       []string            `json:"revisions,omitempty"`
	InitiatedBy     OperationInitiator  `json:"initiatedBy,omitempty"`
}

// ApplicationCondition says what is wrong, or must be known.
type ApplicationCondition struct {
	Type               string       `json:"type"`
	Message            string       `json:"message"`
	LastTransitionTime *metav1.Time `json:"lastTransitionTime,omitempty"`
}

// The types of conditions. Those that end in Error make the sync status
// Unknown, or say why a sync failed; Pinned, SyncWindowWarning and FightingWarning are ours.
const (
	ConditionInvalidSpecError        = "InvalidSpecError"
	ConditionComparisonError         = "ComparisonError"
	ConditionSyncError               = "SyncError"
	ConditionDeletionError           = "DeletionError"
	ConditionUnknownError            = "UnknownError"
	ConditionSharedResourceWarning   = "SharedResourceWarning"
	ConditionRepeatedResourceWarning = "RepeatedResourceWarning"
	ConditionExcludedResourceWarning = "ExcludedResourceWarning"
	ConditionOrphanedResourceWarning = "OrphanedResourceWarning"
	ConditionRenderWarning           = "RenderWarning"
	ConditionFightingWarning         = "FightingWarning"
	ConditionSyncWindowWarning       = "SyncWindowWarning"
	ConditionClusterAwayError        = "ClusterAwayError"
	ConditionPinned                  = "Pinned"
)

// ApplicationSummary is for people.
type ApplicationSummary struct {
	ExternalURLs []string `json:"externalURLs,omitempty"`
	Images       []string `json:"images,omitempty"`
}
