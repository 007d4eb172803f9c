package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
)

// projEdit is a command that changes one list of a project.
type projEdit struct {
	name, short string
	// args are those after the project's name; split is what stands between
	// them where they are one value of a flag.
	args    []string
	split   string
	example string
	change  func(p *argo.AppProject, args []string) error
}

var projEdits = []projEdit{
	{"add-source", "Permit a repository", []string{"URL"}, "", "https://github.com/myorg/shop", func(p *argo.AppProject, a []string) error {
		return addTo(&p.Spec.SourceRepos, a[0])
	}},
	{"remove-source", "Permit a repository no more", []string{"URL"}, "", "https://github.com/myorg/shop", func(p *argo.AppProject, a []string) error {
		return removeFrom(&p.Spec.SourceRepos, a[0])
	}},
	{"add-destination", "Permit a cluster, by address or name, and namespace", []string{"SERVER-OR-NAME", "NAMESPACE"}, ",", "https://kubernetes.default.svc shop", func(p *argo.AppProject, a []string) error {
		return addTo(&p.Spec.Destinations, destinationArgs(a))
	}},
	{"remove-destination", "Permit a cluster and namespace no more", []string{"SERVER-OR-NAME", "NAMESPACE"}, ",", "https://kubernetes.default.svc shop", func(p *argo.AppProject, a []string) error {
		return removeFrom(&p.Spec.Destinations, destinationArgs(a))
	}},
	{"add-source-namespace", "Permit Applications of a namespace beside argocd", []string{"NAMESPACE"}, "", "team-a", func(p *argo.AppProject, a []string) error {
		return addTo(&p.Spec.SourceNamespaces, a[0])
	}},
	{"remove-source-namespace", "Permit Applications of a namespace no more", []string{"NAMESPACE"}, "", "team-a", func(p *argo.AppProject, a []string) error {
		return removeFrom(&p.Spec.SourceNamespaces, a[0])
	}},
	{"allow-cluster-resource", "Permit a cluster-scoped kind", []string{"GROUP", "KIND"}, "/", "'' Namespace", func(p *argo.AppProject, a []string) error {
		return allow(&p.Spec.ClusterResourceWhitelist, &p.Spec.ClusterResourceBlacklist, argo.ClusterResourceRestriction{Group: a[0], Kind: a[1]}, true)
	}},
	{"deny-cluster-resource", "Permit a cluster-scoped kind no more", []string{"GROUP", "KIND"}, "/", "'' Namespace", func(p *argo.AppProject, a []string) error {
		return allow(&p.Spec.ClusterResourceBlacklist, &p.Spec.ClusterResourceWhitelist, argo.ClusterResourceRestriction{Group: a[0], Kind: a[1]}, false)
	}},
	{"allow-namespace-resource", "Take a kind off the list of those that are denied", []string{"GROUP", "KIND"}, "/", "'' ResourceQuota", func(p *argo.AppProject, a []string) error {
		return removeFrom(&p.Spec.NamespaceResourceBlacklist, metav1.GroupKind{Group: a[0], Kind: a[1]})
	}},
	{"deny-namespace-resource", "Deny a namespaced kind", []string{"GROUP", "KIND"}, "/", "'' ResourceQuota", func(p *argo.AppProject, a []string) error {
		return addTo(&p.Spec.NamespaceResourceBlacklist, metav1.GroupKind{Group: a[0], Kind: a[1]})
	}},
	{"add-signature-key", "Permit commits that are signed with a key", []string{"KEY-ID"}, "", "4AEE18F83AFDEB23", func(p *argo.AppProject, a []string) error {
		return addTo(&p.Spec.SignatureKeys, argo.SignatureKey{KeyID: a[0]})
	}},
	{"remove-signature-key", "Permit commits that are signed with a key no more", []string{"KEY-ID"}, "", "4AEE18F83AFDEB23", func(p *argo.AppProject, a []string) error {
		return removeFrom(&p.Spec.SignatureKeys, argo.SignatureKey{KeyID: a[0]})
	}},
}

func newProjEditCommand(o *appOptions, edit projEdit) *cobra.Command {
	return &cobra.Command{
		Use:     edit.name + " PROJECT " + strings.Join(edit.args, " "),
		Short:   edit.short,
		Example: "  fairway proj " + edit.name + " shop " + edit.example,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1+len(edit.args) {
				return usage("want PROJECT %s", strings.Join(edit.args, " "))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			err := o.changeProject(cmd.Context(), args[0], func(p *argo.AppProject) error { return edit.change(p, args[1:]) })
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "project '%s' changed\n", args[0])
			return nil
		},
	}
}

// destinationArgs tells an address from a name, as argocd does with --name.
func destinationArgs(args []string) argo.ApplicationDestination {
	if strings.Contains(args[0], "://") || args[0] == "*" || strings.HasPrefix(args[0], "!") {
		return argo.ApplicationDestination{Server: args[0], Namespace: args[1]}
	}
	return argo.ApplicationDestination{Name: args[0], Namespace: args[1]}
}

func addTo[T comparable](list *[]T, value T) error {
	if slices.Contains(*list, value) {
		return fmt.Errorf("%v is there already", value)
	}
	*list = append(*list, value)
	return nil
}

func removeFrom[T comparable](list *[]T, value T) error {
	i := slices.Index(*list, value)
	if i < 0 {
		return fmt.Errorf("%v is not there", value)
	}
	*list = slices.Delete(*list, i, i+1)
	return nil
}

// allow puts the value on one list and takes it off the other. Who is denied
// what nothing permits needs no entry.
func allow[T comparable](on, off *[]T, value T, add bool) error {
	had := slices.Contains(*off, value)
	*off = slices.DeleteFunc(*off, func(v T) bool { return v == value })
	if !add && had {
		return nil
	}
	if err := addTo(on, value); err != nil && !had {
		return err
	}
	return nil
}
