package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ApplicationSetStatus is what was last seen of an ApplicationSet.
type ApplicationSetStatus struct {
	Conditions        []ApplicationSetCondition         `json:"conditions,omitempty"`
	ApplicationStatus []ApplicationSetApplicationStatus `json:"applicationStatus,omitempty"`
	// Resources are the Applications, at most 5000 of them; ResourcesCount is
	// how many there are.
	Resources      []ResourceStatus `json:"resources,omitempty"`
	ResourcesCount int64            `json:"resourcesCount,omitempty"`
}

// ApplicationSetCondition is one condition.
type ApplicationSetCondition struct {
	Type               string       `json:"type"`
	Message            string       `json:"message"`
	LastTransitionTime *metav1.Time `json:"lastTransitionTime,omitempty"`
	Status             string       `json:"status"`
	Reason             string       `json:"reason"`
}

// The conditions of an ApplicationSet.
const (
	SetConditionErrorOccurred       = "ErrorOccurred"
	SetConditionParametersGenerated = "ParametersGenerated"
	SetConditionResourcesUpToDate   = "ResourcesUpToDate"
	SetConditionRolloutProgressing  = "RolloutProgressing"
)

// ApplicationSetApplicationStatus is how far an Application is in a
// RollingSync.
type ApplicationSetApplicationStatus struct {
	Application        string       `json:"application"`
	LastTransitionTime *metav1.Time `json:"lastTransitionTime,omitempty"`
	Message            string       `json:"message"`
	// Status is Waiting, Pending, Progressing or Healthy.
	Status string `json:"status"`
	// Step is counted from 1; -1 is in none.
	Step            string   `json:"step"`
	TargetRevisions []string `json:"targetRevisions,omitempty"`
}

// The states of an Application in a RollingSync.
const (
	RolloutWaiting     = "Waiting"
	RolloutPending     = "Pending"
	RolloutProgressing = "Progressing"
	RolloutHealthy     = "Healthy"
)
