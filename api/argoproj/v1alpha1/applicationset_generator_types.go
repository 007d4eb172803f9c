package v1alpha1

import (
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ApplicationSetGenerator finds sets of parameters; exactly one of its kinds
// is set.
type ApplicationSetGenerator struct {
	List                    *ListGenerator        `json:"list,omitempty"`
	Clusters                *ClusterGenerator     `json:"clusters,omitempty"`
	Git                     *GitGenerator         `json:"git,omitempty"`
	SCMProvider             *SCMProviderGenerator `json:"scmProvider,omitempty"`
	ClusterDecisionResource *DuckTypeGenerator    `json:"clusterDecisionResource,omitempty"`
	PullRequest             *PullRequestGenerator `json:"pullRequest,omitempty"`
	Matrix                  *MatrixGenerator      `json:"matrix,omitempty"`
	Merge                   *MergeGenerator       `json:"merge,omitempty"`
	Plugin                  *PluginGenerator      `json:"plugin,omitempty"`
	// Selector keeps the sets of parameters that match it.
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
}

// ListGenerator has its parameters in itself.
type ListGenerator struct {
	Elements []apiextensions.JSON `json:"elements,omitempty"`
	// Template overrides the ApplicationSet's where it is not empty.
	//
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Type=object
	Template *ApplicationSetTemplate `json:"template,omitempty"`
	// ElementsYaml is a YAML list of more elements, filled in by a Matrix.
	ElementsYaml string `json:"elementsYaml,omitempty"`
}

// ClusterGenerator has a set for each cluster, by their Secrets.
type ClusterGenerator struct {
	Selector metav1.LabelSelector `json:"selector,omitempty"`
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Type=object
	Template *ApplicationSetTemplate `json:"template,omitempty"`
	Values   map[string]string       `json:"values,omitempty"`
	// FlatList makes one set, whose parameter "clusters" is the list.
	FlatList bool `json:"flatList,omitempty"`
}

// GitGenerator has a set for each directory, or for each file or element of
// its list, of a repository.
type GitGenerator struct {
	RepoURL             string             `json:"repoURL"`
	Directories         []GitDirectoryItem `json:"directories,omitempty"`
	Files               []GitFileItem      `json:"files,omitempty"`
	Revision            string             `json:"revision,omitempty"`
	RequeueAfterSeconds *int64             `json:"requeueAfterSeconds,omitempty"`
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Type=object
	Template        *ApplicationSetTemplate `json:"template,omitempty"`
	PathParamPrefix string                  `json:"pathParamPrefix,omitempty"`
	Values          map[string]string       `json:"values,omitempty"`
}

// GitDirectoryItem is a pattern of directories, as path.Match has them.
type GitDirectoryItem struct {
	Path    string `json:"path"`
	Exclude bool   `json:"exclude,omitempty"`
}

// GitFileItem is a pattern of files, whose * crosses slashes.
type GitFileItem struct {
	Path    string `json:"path"`
	Exclude bool   `json:"exclude,omitempty"`
}

// MatrixGenerator combines the sets of two generators, each with each.
type MatrixGenerator struct {
	// Generators are ApplicationSetGenerators, untyped because the second may
	// be a template of the first's parameters, and because they nest.
	Generators []apiextensions.JSON `json:"generators"`
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Type=object
	Template *ApplicationSetTemplate `json:"template,omitempty"`
}

// MergeGenerator overrides the sets of the first generator by those of the
// others that have the same values for the keys.
type MergeGenerator struct {
	Generators []apiextensions.JSON `json:"generators"`
	MergeKeys  []string             `json:"mergeKeys"`
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Type=object
	Template *ApplicationSetTemplate `json:"template,omitempty"`
}

// DuckTypeGenerator is known and not supported.
type DuckTypeGenerator struct {
	ConfigMapRef        string               `json:"configMapRef"`
	Name                string               `json:"name,omitempty"`
	RequeueAfterSeconds *int64               `json:"requeueAfterSeconds,omitempty"`
	LabelSelector       metav1.LabelSelector `json:"labelSelector,omitempty"`
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Type=object
	Template *ApplicationSetTemplate `json:"template,omitempty"`
	Values   map[string]string       `json:"values,omitempty"`
}

// PluginGenerator is known and not supported.
type PluginGenerator struct {
	ConfigMapRef        PluginConfigMapRef `json:"configMapRef"`
	Input               PluginInput        `json:"input,omitempty"`
	RequeueAfterSeconds *int64             `json:"requeueAfterSeconds,omitempty"`
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Type=object
	Template *ApplicationSetTemplate `json:"template,omitempty"`
	Values   map[string]string       `json:"values,omitempty"`
}

// PluginConfigMapRef names a ConfigMap.
type PluginConfigMapRef struct {
	Name string `json:"name"`
}

// PluginInput is what a plugin is given.
type PluginInput struct {
	Parameters map[string]apiextensions.JSON `json:"parameters,omitempty"`
}
