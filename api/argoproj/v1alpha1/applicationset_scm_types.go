package v1alpha1

// SecretRef is a key of a Secret in the ApplicationSet's namespace.
type SecretRef struct {
	SecretName string `json:"secretName"`
	Key        string `json:"key"`
}

// ConfigMapKeyRef is a key of a ConfigMap in the ApplicationSet's namespace.
type ConfigMapKeyRef struct {
	ConfigMapName string `json:"configMapName"`
	Key           string `json:"key"`
}

// BasicAuthBitbucketServer is a name and a password.
type BasicAuthBitbucketServer struct {
	Username    string     `json:"username"`
	PasswordRef *SecretRef `json:"passwordRef"`
}

// BearerTokenBitbucket is a token.
type BearerTokenBitbucket struct {
	TokenRef *SecretRef `json:"tokenRef"`
}

// SCMProviderGenerator has a set for each repository of an organisation, or
// for each branch of each.
type SCMProviderGenerator struct {
	Github          *SCMProviderGithub          `json:"github,omitempty"`
	Gitlab          *SCMProviderGitlab          `json:"gitlab,omitempty"`
	Bitbucket       *SCMProviderBitbucket       `json:"bitbucket,omitempty"`
	BitbucketServer *SCMProviderBitbucketServer `json:"bitbucketServer,omitempty"`
	Gitea           *SCMProviderGitea           `json:"gitea,omitempty"`
	AzureDevOps     *SCMProviderAzureDevOps     `json:"azureDevOps,omitempty"`
	AWSCodeCommit   *SCMProviderAWSCodeCommit   `json:"awsCodeCommit,omitempty"`
	// Filters are alternatives; the conditions of one all hold.
	Filters []SCMProviderFilter `json:"filters,omitempty"`
	// CloneProtocol is ssh (default) or https.
	CloneProtocol       string `json:"cloneProtocol,omitempty"`
	RequeueAfterSeconds *int64 `json:"requeueAfterSeconds,omitempty"`
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Type=object
	Template *ApplicationSetTemplate `json:"template,omitempty"`
	Values   map[string]string       `json:"values,omitempty"`
}

// SCMProviderFilter selects repositories and branches, by regular expressions.
type SCMProviderFilter struct {
	RepositoryMatch *string  `json:"repositoryMatch,omitempty"`
	PathsExist      []string `json:"pathsExist,omitempty"`
	PathsDoNotExist []string `json:"pathsDoNotExist,omitempty"`
	LabelMatch      *string  `json:"labelMatch,omitempty"`
	BranchMatch     *string  `json:"branchMatch,omitempty"`
}

// SCMProviderGithub is an organisation of GitHub.
type SCMProviderGithub struct {
	Organization  string     `json:"organization"`
	API           string     `json:"api,omitempty"`
	TokenRef      *SecretRef `json:"tokenRef,omitempty"`
	AppSecretName string     `json:"appSecretName,omitempty"`
	AllBranches   bool       `json:"allBranches,omitempty"`
	// ExcludeArchivedRepos leaves out what is archived.
	ExcludeArchivedRepos bool `json:"excludeArchivedRepos,omitempty"`
}

// SCMProviderGitlab is a group of GitLab.
type SCMProviderGitlab struct {
	Group                 string           `json:"group"`
	IncludeSubgroups      bool             `json:"includeSubgroups,omitempty"`
	API                   string           `json:"api,omitempty"`
	TokenRef              *SecretRef       `json:"tokenRef,omitempty"`
	AllBranches           bool             `json:"allBranches,omitempty"`
	Insecure              bool             `json:"insecure,omitempty"`
	IncludeSharedProjects *bool            `json:"includeSharedProjects,omitempty"`
	Topic                 string           `json:"topic,omitempty"`
	CARef                 *ConfigMapKeyRef `json:"caRef,omitempty"`
	// IncludeArchivedRepos takes in what is archived.
	IncludeArchivedRepos bool `json:"includeArchivedRepos,omitempty"`
}

// SCMProviderGitea is an organisation of Gitea.
type SCMProviderGitea struct {
	Owner       string     `json:"owner"`
	API         string     `json:"api"`
	TokenRef    *SecretRef `json:"tokenRef,omitempty"`
	AllBranches bool       `json:"allBranches,omitempty"`
	Insecure    bool       `json:"insecure,omitempty"`
	// ExcludeArchivedRepos leaves out what is archived.
	ExcludeArchivedRepos bool `json:"excludeArchivedRepos,omitempty"`
}

// SCMProviderBitbucket is a workspace of Bitbucket Cloud.
type SCMProviderBitbucket struct {
	Owner          string     `json:"owner"`
	User           string     `json:"user"`
	AppPasswordRef *SecretRef `json:"appPasswordRef"`
	AllBranches    bool       `json:"allBranches,omitempty"`
	// BearerToken is in place of user and password.
	BearerToken *BearerTokenBitbucket `json:"bearerToken,omitempty"`
}

// SCMProviderBitbucketServer is a project of a Bitbucket Server.
type SCMProviderBitbucketServer struct {
	Project     string                    `json:"project"`
	API         string                    `json:"api"`
	BasicAuth   *BasicAuthBitbucketServer `json:"basicAuth,omitempty"`
	AllBranches bool                      `json:"allBranches,omitempty"`
	BearerToken *BearerTokenBitbucket     `json:"bearerToken,omitempty"`
	Insecure    bool                      `json:"insecure,omitempty"`
	CARef       *ConfigMapKeyRef          `json:"caRef,omitempty"`
}

// SCMProviderAzureDevOps is known and not supported.
type SCMProviderAzureDevOps struct {
	Organization   string     `json:"organization"`
	API            string     `json:"api,omitempty"`
	TeamProject    string     `json:"teamProject"`
	AccessTokenRef *SecretRef `json:"accessTokenRef,omitempty"`
	AllBranches    bool       `json:"allBranches,omitempty"`
}

// SCMProviderAWSCodeCommit is known and not supported.
type SCMProviderAWSCodeCommit struct {
	TagFilters  []CodeCommitTagFilter `json:"tagFilters,omitempty"`
	Role        string                `json:"role,omitempty"`
	Region      string                `json:"region,omitempty"`
	AllBranches bool                  `json:"allBranches,omitempty"`
}

// CodeCommitTagFilter is a tag.
type CodeCommitTagFilter struct {
	Key   string `json:"key"`
	Value string `json:"value,omitempty"`
}

// PullRequestGenerator has a set for each open pull request of a repository.
type PullRequestGenerator struct {
	Github          *PullRequestGithub          `json:"github,omitempty"`
	GitLab          *PullRequestGitLab          `json:"gitlab,omitempty"`
	Gitea           *PullRequestGitea           `json:"gitea,omitempty"`
	BitbucketServer *PullRequestBitbucketServer `json:"bitbucketServer,omitempty"`
	Bitbucket       *PullRequestBitbucket       `json:"bitbucket,omitempty"`
	AzureDevOps     *PullRequestAzureDevOps     `json:"azuredevops,omitempty"`
	// Filters are alternatives; the conditions of one all hold.
	Filters             []PullRequestFilter `json:"filters,omitempty"`
	RequeueAfterSeconds *int64              `json:"requeueAfterSeconds,omitempty"`
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Type=object
	Template *ApplicationSetTemplate `json:"template,omitempty"`
	Values   map[string]string       `json:"values,omitempty"`
	// ContinueOnRepoNotFoundError is known: a repository that is not there has
	// no pull requests.
	ContinueOnRepoNotFoundError bool `json:"continueOnRepoNotFoundError,omitempty"`
}

// PullRequestFilter selects pull requests, by regular expressions.
type PullRequestFilter struct {
	BranchMatch       *string `json:"branchMatch,omitempty"`
	TargetBranchMatch *string `json:"targetBranchMatch,omitempty"`
	TitleMatch        *string `json:"titleMatch,omitempty"`
}

// PullRequestGithub is a repository of GitHub.
type PullRequestGithub struct {
	Owner         string     `json:"owner"`
	Repo          string     `json:"repo"`
	API           string     `json:"api,omitempty"`
	TokenRef      *SecretRef `json:"tokenRef,omitempty"`
	AppSecretName string     `json:"appSecretName,omitempty"`
	// Labels are those that a pull request has to have.
	Labels []string `json:"labels,omitempty"`
}

// PullRequestGitLab is a project of GitLab.
type PullRequestGitLab struct {
	Project          string           `json:"project"`
	API              string           `json:"api,omitempty"`
	TokenRef         *SecretRef       `json:"tokenRef,omitempty"`
	Labels           []string         `json:"labels,omitempty"`
	PullRequestState string           `json:"pullRequestState,omitempty"`
	Insecure         bool             `json:"insecure,omitempty"`
	CARef            *ConfigMapKeyRef `json:"caRef,omitempty"`
}

// PullRequestGitea is a repository of Gitea.
type PullRequestGitea struct {
	Owner    string     `json:"owner"`
	Repo     string     `json:"repo"`
	API      string     `json:"api"`
	TokenRef *SecretRef `json:"tokenRef,omitempty"`
	Insecure bool       `json:"insecure,omitempty"`
	Labels   []string   `json:"labels,omitempty"`
}

// PullRequestBitbucketServer is a repository of a Bitbucket Server.
type PullRequestBitbucketServer struct {
	Project     string                    `json:"project"`
	Repo        string                    `json:"repo"`
	API         string                    `json:"api"`
	BasicAuth   *BasicAuthBitbucketServer `json:"basicAuth,omitempty"`
	BearerToken *BearerTokenBitbucket     `json:"bearerToken,omitempty"`
	Insecure    bool                      `json:"insecure,omitempty"`
	CARef       *ConfigMapKeyRef          `json:"caRef,omitempty"`
}

// PullRequestBitbucket is a repository of Bitbucket Cloud.
type PullRequestBitbucket struct {
	Owner       string                    `json:"owner"`
	Repo        string                    `json:"repo"`
	API         string                    `json:"api,omitempty"`
	BasicAuth   *BasicAuthBitbucketServer `json:"basicAuth,omitempty"`
	BearerToken *BearerTokenBitbucket     `json:"bearerToken,omitempty"`
}

// PullRequestAzureDevOps is known and not supported.
type PullRequestAzureDevOps struct {
	Organization string     `json:"organization"`
	Project      string     `json:"project"`
	Repo         string     `json:"repo"`
	API          string     `json:"api,omitempty"`
	TokenRef     *SecretRef `json:"tokenRef,omitempty"`
	Labels       []string   `json:"labels,omitempty"`
}
