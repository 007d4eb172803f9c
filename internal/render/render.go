// Package render turns a source tree into the objects that it describes:
// kustomize, Helm, or plain manifests and jsonnet. It is pure: the same tree and the same
// request give the same objects, and it knows exactly what it read.
package render

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
)

// Renderer renders requests. Implementations are safe for concurrent use.
type Renderer interface {
	// Render returns the objects that req describes, in the order in which the
	// tool printed them. What is wrong with the source is an *Error, which does
	// not go away by trying again; every other error may.
	Render(ctx context.Context, req Request) (*Result, error)
}

// Tool is what makes objects of a directory.
type Tool string

// The tools. Auto finds out: kustomization.yaml (.yml, Kustomization) is
// Kustomize, Chart.yaml is Helm, everything else is Plain, or Kustomize where
// KustomizeOptions.Generate is set.
const (
	Auto      Tool = ""
	Kustomize Tool = "Kustomize"
	Helm      Tool = "Helm"
	Plain     Tool = "Directory"
)

// Request says what to render.
type Request struct {
	// Tree is the source, Path the directory in it ("." is the root).
	Tree core.Tree
	Path string
	// Refs are other sources, by the name that "$NAME/…" in a Helm value file
	// refers to.
	Refs map[string]core.Tree
	// Source names where Tree comes from (its URL, or the delivery's name) for
	// the cache, which remembers by it what was read the last time. It has no
	// effect on the result and may be empty.
	Source string

	Tool      Tool
	Plain     PlainOptions
	Kustomize KustomizeOptions
	Helm      HelmOptions
	// Release, where set, makes a Helm render that of a release. What comes out
	// of any tool is then for once, and not for a cache.
	Release *ReleaseOptions

	// Decrypt, where set, opens the encrypted files that secretGenerators and
	// patches of kustomizations read. Objects that are encrypted come out so.
	Decrypt Decrypter
}

// PlainOptions are for a directory of manifests (.yaml, .yml, .json, .jsonnet).
type PlainOptions struct {
	Recurse bool
	// Include and Exclude are globs on the path relative to the directory, as
	// Argo CD matches them ("{a,b}*.yaml").
	Include, Exclude string
	// ExtVars are what std.extVar finds, TLAs the arguments of a file that
	// evaluates to a function, for all jsonnet files of the directory.
	ExtVars, TLAs []JsonnetVar `json:",omitempty"`
	// Libs are the directories, from the tree's root, in which imports are
	// looked for that are not beside the file; the last one wins.
	Libs []string `json:",omitempty"`
}

// IsZero says whether o asks for nothing.
func (o PlainOptions) IsZero() bool {
	return !o.Recurse && o.Include == "" && o.Exclude == "" && len(o.ExtVars)+len(o.TLAs)+len(o.Libs) == 0
}

// JsonnetVar is a variable for jsonnet: a string, or an expression.
type JsonnetVar struct {
	Name, Value string
	Code        bool
}

// KustomizeOptions are laid over the directory's own kustomization.
type KustomizeOptions struct {
	// Generate makes a kustomization of all manifests below the directory
	// where it has none (Flux), instead of taking it for Plain.
	Generate bool

	NamePrefix, NameSuffix  string
	Namespace               string
	CommonLabels            map[string]string
	LabelWithoutSelector    bool
	LabelIncludeTemplates   bool
	ForceCommonLabels       bool
	CommonAnnotations       map[string]string
	ForceCommonAnnotations  bool
	Images                  []KustomizeImage
	Replicas                []KustomizeReplicas
	Patches                 []KustomizePatch
	Components              []string
	IgnoreMissingComponents bool
	// BuildMetadata are originAnnotations and transformerAnnotations, in
	// addition to what the kustomization asks for itself.
	BuildMetadata []string
	// CommonMetadata is Flux's: set on every object after the build.
	MetadataLabels, MetadataAnnotations map[string]string
}

// KustomizeImage replaces an image's name, tag or digest.
type KustomizeImage struct{ Name, NewName, NewTag, Digest string }

// KustomizeReplicas sets a workload's number of replicas.
type KustomizeReplicas struct {
	Name  string
	Count int64
}

// KustomizePatch is a strategic-merge or JSON 6902 patch, with its target in
// YAML (kustomize's Selector), or "" where the patch names its target.
type KustomizePatch struct {
	Patch   string
	Target  *KustomizeTarget
	Options map[string]bool
}

// KustomizeTarget selects objects, as kustomize's Selector does.
type KustomizeTarget struct {
	Group, Version, Kind, Name, Namespace string
	LabelSelector, AnnotationSelector     string
}

// HelmOptions are what `helm template` takes.
type HelmOptions struct {
	ReleaseName string
	Namespace   string
	// ValueFiles are paths in Tree relative to Path ("/x" from the tree's
	// root), or "$NAME/…" in Refs; later ones win. Then Values (YAML), then
	// Parameters, then FileParameters.
	ValueFiles              []string
	IgnoreMissingValueFiles bool
	Values                  string
	Parameters              []HelmParameter
	FileParameters          []HelmParameter
	SkipCRDs                bool
	SkipTests               bool
	SkipSchemaValidation    bool
	// KubeVersion ("v1.36.3") and APIVersions ("apps/v1", "apps/v1/Deployment")
	// are the cluster's .Capabilities.
	KubeVersion string
	APIVersions []string
}

// HelmParameter is one --set or --set-string; for FileParameters Value is the
// path of the file.
type HelmParameter struct {
	Name, Value string
	ForceString bool
}

// Result is what came out.
type Result struct {
	Objects []*unstructured.Unstructured
	// Release is in place of Objects where the request has one.
	Release *Release
	// Tool is the one that was used.
	Tool Tool
	// Key is the SHA-256, in hexadecimal, over the renderer's version, the
	// request's parameters and Inputs. Equal keys are equal objects. It is
	// empty where the result must not be cached, and Uncacheable says why.
	Key         string
	Uncacheable string
	// Inputs are all that was read, sorted by source and path.
	Inputs []Input
	// ClearSecrets are the Secrets that have a value in clear in the source.
	ClearSecrets []core.ObjectRef
	// Decrypted says that the objects hold what was encrypted in the source:
	// they are not written to a disk.
	Decrypted bool
	// Warnings are for people: deprecated fields and the like.
	Warnings []string
	// Took is the time that the tool took; 0 for a cached result.
	Took   time.Duration
	Cached bool
}

// Input is one thing that a render read from its source.
type Input struct {
	// Source is "" for Request.Tree, or a key of Request.Refs.
	Source string
	Path   string
	Kind   InputKind
	// Hash is of a file its TreeEntry.Hash, of a directory the SHA-256 over the
	// names and types of its entries, of a type the type's name; empty for
	// Missing.
	Hash string
}

// InputKind is how an Input was read.
type InputKind string

// What can be read from a tree: a file's content or a link's target, a
// directory's listing (its own entries, not what is in them), what type of
// thing is there, or that nothing is there.
const (
	InputFile      InputKind = "file"
	InputDirectory InputKind = "directory"
	InputType      InputKind = "type"
	InputMissing   InputKind = "missing"
)

// Error says what is wrong with a source. It names the file, and the line
// where that is known.
type Error struct {
	Reason Reason
	Path   string
	Line   int
	Msg    string
	hint   string
	// noObject is set where the source is not even an object.
	noObject bool
}

// Reason classifies an Error, for conditions and metrics.
type Reason string

// The reasons for which a source does not render.
const (
	PathNotFound     Reason = "PathNotFound"
	InvalidYAML      Reason = "InvalidYAML"
	InvalidObject    Reason = "InvalidObject"
	BuildFailed      Reason = "BuildFailed"      // kustomize says no
	ChartFailed      Reason = "ChartFailed"      // Helm says no
	JsonnetFailed    Reason = "JsonnetFailed"    // jsonnet says no
	OutsideTree      Reason = "OutsideTree"      // "../.." or a link that leaves the repository
	RemoteNotAllowed Reason = "RemoteNotAllowed" // a remote base or resource
	LimitExceeded    Reason = "LimitExceeded"    // time, memory, size, number
	Unsupported      Reason = "Unsupported"      // a feature that we refuse by name
	DecryptFailed    Reason = "DecryptFailed"    // an encrypted file does not open
)
