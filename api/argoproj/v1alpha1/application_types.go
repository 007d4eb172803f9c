package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Application delivers objects from one or more sources to a destination.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=applications,shortName=app;apps
// +kubebuilder:printcolumn:name="Sync Status",type=string,JSONPath=`.status.sync.status`
// +kubebuilder:printcolumn:name="Health Status",type=string,JSONPath=`.status.health.status`
// +kubebuilder:printcolumn:name="Revision",type=string,JSONPath=`.status.sync.revision`,priority=10
// +kubebuilder:printcolumn:name="Project",type=string,JSONPath=`.spec.project`,priority=10
type Application struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              ApplicationSpec   `json:"spec"`
	Status            ApplicationStatus `json:"status,omitempty"`
	// Operation is what is asked to be done now. The controller removes it
	// when it is done.
	Operation *Operation `json:"operation,omitempty"`
}

// ApplicationList is a list of Applications.
//
// +kubebuilder:object:root=true
type ApplicationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []Application `json:"items"`
}

// ApplicationSpec says what is delivered, where to, and how.
type ApplicationSpec struct {
	// Source is where the manifests are. Sources are several, and win.
	Source      *ApplicationSource     `json:"source,omitempty"`
	Destination ApplicationDestination `json:"destination"`
	// Project is the name of the AppProject that limits the Application.
	Project           string               `json:"project"`
	SyncPolicy        *SyncPolicy          `json:"syncPolicy,omitempty"`
	IgnoreDifferences []ResourceIgnoreDiff `json:"ignoreDifferences,omitempty"`
	Info              []Info               `json:"info,omitempty"`
	// RevisionHistoryLimit is how many entries the history keeps; default 10.
	RevisionHistoryLimit *int64              `json:"revisionHistoryLimit,omitempty"`
	Sources              []ApplicationSource `json:"sources,omitempty"`
	SourceHydrator       *SourceHydrator     `json:"sourceHydrator,omitempty"`
}

// SourceHydrator is known and not supported.
type SourceHydrator struct {
	DrySource  *DrySource  `json:"drySource,omitempty"`
	SyncSource *SyncSource `json:"syncSource,omitempty"`
	HydrateTo  *HydrateTo  `json:"hydrateTo,omitempty"`
}

// DrySource is where a hydrator reads.
type DrySource struct {
	RepoURL        string           `json:"repoURL"`
	TargetRevision string           `json:"targetRevision"`
	Path           string           `json:"path"`
	Helm           *SourceHelm      `json:"helm,omitempty"`
	Kustomize      *SourceKustomize `json:"kustomize,omitempty"`
	Directory      *SourceDirectory `json:"directory,omitempty"`
	Plugin         *SourcePlugin    `json:"plugin,omitempty"`
}

// SyncSource is where a hydrated branch is synced from.
type SyncSource struct {
	TargetBranch string `json:"targetBranch"`
	Path         string `json:"path"`
}

// HydrateTo is where a hydrator writes.
type HydrateTo struct {
	TargetBranch string `json:"targetBranch"`
}

// Info is for people.
type Info struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// ApplicationDestination is a cluster, by server or by name, and the
// namespace of objects that name none.
type ApplicationDestination struct {
	Server    string `json:"server,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
}

// SyncPolicy says when and how a sync is done.
type SyncPolicy struct {
	Automated *SyncPolicyAutomated `json:"automated,omitempty"`
	// SyncOptions are NAME=VALUE, such as CreateNamespace=true.
	SyncOptions              []string                  `json:"syncOptions,omitempty"`
	Retry                    *RetryStrategy            `json:"retry,omitempty"`
	ManagedNamespaceMetadata *ManagedNamespaceMetadata `json:"managedNamespaceMetadata,omitempty"`
}

// SyncPolicyAutomated syncs without being asked.
type SyncPolicyAutomated struct {
	Prune      bool  `json:"prune,omitempty"`
	SelfHeal   bool  `json:"selfHeal,omitempty"`
	AllowEmpty bool  `json:"allowEmpty,omitempty"`
	Enabled    *bool `json:"enabled,omitempty"`
}

// RetryStrategy says how often a failed sync is tried again.
type RetryStrategy struct {
	// Limit is the number of retries; negative is without end.
	Limit   int64    `json:"limit,omitempty"`
	Backoff *Backoff `json:"backoff,omitempty"`
	// Refresh takes the newest revision for a retry. We always do.
	Refresh bool `json:"refresh,omitempty"`
}

// Backoff is the time between retries. A duration is Go's ("5s"), or a number
// of seconds.
type Backoff struct {
	Duration    string `json:"duration,omitempty"`
	Factor      *int64 `json:"factor,omitempty"`
	MaxDuration string `json:"maxDuration,omitempty"`
}

// ManagedNamespaceMetadata is set on the namespace that CreateNamespace makes.
type ManagedNamespaceMetadata struct {
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// ResourceIgnoreDiff names fields whose difference does not count.
type ResourceIgnoreDiff struct {
	Group                 string   `json:"group,omitempty"`
	Kind                  string   `json:"kind"`
	Name                  string   `json:"name,omitempty"`
	Namespace             string   `json:"namespace,omitempty"`
	JSONPointers          []string `json:"jsonPointers,omitempty"`
	JQPathExpressions     []string `json:"jqPathExpressions,omitempty"`
	ManagedFieldsManagers []string `json:"managedFieldsManagers,omitempty"`
}
