package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Repository is a Git repository that this instance serves at
// /git/NAMESPACE/NAME.git. Who may fetch, push, create and delete it is
// Kubernetes RBAC on this kind: get, update, create, delete.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=repo,categories=fairway
// +kubebuilder:printcolumn:name="URL",type=string,JSONPath=`.status.url`
// +kubebuilder:printcolumn:name="Branches",type=integer,JSONPath=`.status.branches`
// +kubebuilder:printcolumn:name="Size",type=string,JSONPath=`.status.size`
// +kubebuilder:printcolumn:name="Last push",type=date,JSONPath=`.status.lastPush.time`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Repository struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec RepositorySpec `json:"spec,omitempty"`
	// +optional
	Status RepositoryStatus `json:"status,omitempty"`
}

// RepositorySpec is what is wanted of a repository.
type RepositorySpec struct {
	// Description is for people, one line.
	//
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Description string `json:"description,omitempty"`

	// DefaultBranch is what a clone checks out, from when it exists: the target
	// of HEAD, without refs/heads/. Left out, it is the first branch pushed.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9_]([A-Za-z0-9._/-]*[A-Za-z0-9_-])?$`
	// +kubebuilder:validation:XValidation:rule="!self.contains('..') && !self.contains('//') && !self.contains('/.') && !self.contains('./') && !self.endsWith('.lock')",message="not a branch name that git accepts"
	// +optional
	DefaultBranch string `json:"defaultBranch,omitempty"`

	// InsteadOf are URLs that mean this repository: a manifest that names one
	// of them is served from here, as git's url.*.insteadOf does.
	//
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=2048
	// +optional
	InsteadOf []string `json:"insteadOf,omitempty"`

	// Limits are below the instance's, where set; what is above them has no
	// effect.
	//
	// +optional
	Limits *RepositoryLimits `json:"limits,omitempty"`
}

// RepositoryLimits bound what a repository takes.
type RepositoryLimits struct {
	// PushSize is the most that one push may transfer.
	//
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).isGreaterThan(quantity('0'))",message="want more than 0"
	// +optional
	PushSize *resource.Quantity `json:"pushSize,omitempty"`
	// FileSize is the most that a file may have for a delivery to read it.
	//
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).isGreaterThan(quantity('0'))",message="want more than 0"
	// +optional
	FileSize *resource.Quantity `json:"fileSize,omitempty"`
	// Refs is how many references there may be.
	//
	// +kubebuilder:validation:Minimum=1
	// +optional
	Refs *int32 `json:"refs,omitempty"`
}

// ConditionReady is the condition type that sums a Repository up.
const ConditionReady = "Ready"

// RepositoryStatus is how a repository stands.
type RepositoryStatus struct {
	// ObservedGeneration is the generation of the spec that this is about.
	//
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// URL is where git finds it.
	//
	// +optional
	URL string `json:"url,omitempty"`
	// Size is what it takes on disk.
	//
	// +optional
	Size *resource.Quantity `json:"size,omitempty"`
	// Branches is how many there are.
	//
	// +optional
	Branches *int32 `json:"branches,omitempty"`
	// LastPush is the newest change to a reference.
	//
	// +optional
	LastPush *Push `json:"lastPush,omitempty"`
	// Conditions: Ready.
	//
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Push is one change to a reference.
type Push struct {
	Time metav1.Time `json:"time"`
	// User is the Kubernetes user name; empty for a mirror.
	//
	// +optional
	User string `json:"user,omitempty"`
	// Ref is the full name of the reference.
	Ref string `json:"ref"`
	// Commit is where it stands now; empty where it was deleted.
	//
	// +optional
	Commit string `json:"commit,omitempty"`
}

// RepositoryList is a list of them.
//
// +kubebuilder:object:root=true
type RepositoryList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Repository `json:"items"`
}
