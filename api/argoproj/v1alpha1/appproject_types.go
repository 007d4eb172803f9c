package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// AppProject limits what its Applications may deliver, from where, to where.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=appprojects,shortName=appproj;appprojs
type AppProject struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              AppProjectSpec   `json:"spec"`
	Status            AppProjectStatus `json:"status,omitempty"`
}

// AppProjectList is a list of AppProjects.
//
// +kubebuilder:object:root=true
type AppProjectList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []AppProject `json:"items"`
}

// AppProjectSpec are the limits. Patterns are globs; a leading "!" denies.
type AppProjectSpec struct {
	SourceRepos                     []string                     `json:"sourceRepos,omitempty"`
	Destinations                    []ApplicationDestination     `json:"destinations,omitempty"`
	Description                     string                       `json:"description,omitempty"`
	Roles                           []ProjectRole                `json:"roles,omitempty"`
	ClusterResourceWhitelist        []ClusterResourceRestriction `json:"clusterResourceWhitelist,omitempty"`
	NamespaceResourceBlacklist      []metav1.GroupKind           `json:"namespaceResourceBlacklist,omitempty"`
	OrphanedResources               *OrphanedResources           `json:"orphanedResources,omitempty"`
	SyncWindows                     []SyncWindow                 `json:"syncWindows,omitempty"`
	NamespaceResourceWhitelist      []metav1.GroupKind           `json:"namespaceResourceWhitelist,omitempty"`
	SignatureKeys                   []SignatureKey               `json:"signatureKeys,omitempty"`
	ClusterResourceBlacklist        []ClusterResourceRestriction `json:"clusterResourceBlacklist,omitempty"`
	SourceNamespaces                []string                     `json:"sourceNamespaces,omitempty"`
	PermitOnlyProjectScopedClusters bool                         `json:"permitOnlyProjectScopedClusters,omitempty"`
	DestinationServiceAccounts      []DestinationServiceAccount  `json:"destinationServiceAccounts,omitempty"`
}

// ClusterResourceRestriction names a cluster-scoped kind, and a name's glob.
type ClusterResourceRestriction struct {
	Group string `json:"group"`
	Kind  string `json:"kind"`
	Name  string `json:"name,omitempty"`
}

// ProjectRole is known and not enforced by us: permissions are Kubernetes'.
type ProjectRole struct {
	Name        string     `json:"name"`
	Description string     `json:"description,omitempty"`
	Policies    []string   `json:"policies,omitempty"`
	JWTTokens   []JWTToken `json:"jwtTokens,omitempty"`
	Groups      []string   `json:"groups,omitempty"`
}

// JWTToken is a token of a role.
type JWTToken struct {
	IssuedAt  int64  `json:"iat"`
	ExpiresAt int64  `json:"exp,omitempty"`
	ID        string `json:"id,omitempty"`
}

// OrphanedResources asks for a warning of objects that nobody owns.
type OrphanedResources struct {
	Warn   *bool                 `json:"warn,omitempty"`
	Ignore []OrphanedResourceKey `json:"ignore,omitempty"`
}

// OrphanedResourceKey names objects that may be orphans.
type OrphanedResourceKey struct {
	Group string `json:"group,omitempty"`
	Kind  string `json:"kind,omitempty"`
	Name  string `json:"name,omitempty"`
}

// SyncWindow is a time in which syncs are allowed or denied.
type SyncWindow struct {
	Kind           string   `json:"kind,omitempty"`
	Schedule       string   `json:"schedule,omitempty"`
	Duration       string   `json:"duration,omitempty"`
	Applications   []string `json:"applications,omitempty"`
	Namespaces     []string `json:"namespaces,omitempty"`
	Clusters       []string `json:"clusters,omitempty"`
	ManualSync     bool     `json:"manualSync,omitempty"`
	TimeZone       string   `json:"timeZone,omitempty"`
	UseAndOperator bool     `json:"andOperator,omitempty"`
	Description    string   `json:"description,omitempty"`
	SyncOverrun    bool     `json:"syncOverrun,omitempty"`
}

// SignatureKey is a GnuPG key that commits must be signed with.
type SignatureKey struct {
	KeyID string `json:"keyID"`
}

// DestinationServiceAccount is whom to impersonate at a destination.
type DestinationServiceAccount struct {
	Server                string `json:"server"`
	Namespace             string `json:"namespace,omitempty"`
	DefaultServiceAccount string `json:"defaultServiceAccount"`
}

// AppProjectStatus is empty but for what Argo CD keeps there.
type AppProjectStatus struct {
	JWTTokensByRole map[string]JWTTokens `json:"jwtTokensByRole,omitempty"`
}

// JWTTokens is a list of tokens.
type JWTTokens struct {
	Items []JWTToken `json:"items,omitempty"`
}
