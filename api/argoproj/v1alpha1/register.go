package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Group is Argo CD's API group.
const Group = "argoproj.io"

// GroupVersion is the version that these types are of.
var GroupVersion = schema.GroupVersion{Group: Group, Version: "v1alpha1"}

// The kinds and the finalizers of Argo CD.
const (
	ApplicationKind = "Application"
	AppProjectKind  = "AppProject"

	// Finalizer deletes what the Application owns, in the foreground, before
	// the Application goes; BackgroundFinalizer does so in the background.
	Finalizer           = "resources-finalizer.argocd.argoproj.io"
	ForegroundFinalizer = Finalizer + "/foreground"
	BackgroundFinalizer = Finalizer + "/background"

	// AnnotationRefresh asks for a refresh: "normal" or "hard".
	AnnotationRefresh = "argocd.argoproj.io/refresh"

	// InClusterServer and InClusterName are the cluster that we run in.
	InClusterServer = "https://kubernetes.default.svc"
	InClusterName   = "in-cluster"

	// DefaultProject is the project of an Application that names none.
	DefaultProject = "default"
)

// AddToScheme registers the types.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &Application{}, &ApplicationList{}, &AppProject{}, &AppProjectList{}, &ApplicationSet{}, &ApplicationSetList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
