package main

import (
	"context"
	"fmt"
	"slices"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
)

// appSelection names several deliveries without their names.
type appSelection struct {
	// labels is a selector, set the name of the ApplicationSet whose they are.
	labels, set string
}

func (s *appSelection) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&s.labels, "selector", "l", "", "label selector, in place of names")
	cmd.Flags().StringVar(&s.set, "appset", "", "the Applications of this ApplicationSet, in place of names")
}

// given says that something is selected.
func (s *appSelection) given() bool { return s.labels != "" || s.set != "" }

// check refuses what contradicts.
func (s *appSelection) check(args []string) error {
	switch {
	case s.labels != "" && s.set != "":
		return usage("--selector and --appset contradict each other")
	case s.given() && len(args) > 0:
		return usage("names and a selection of them contradict each other")
	}
	return nil
}

// matches says whether a delivery is selected.
func (s *appSelection) matches(obj client.Object) bool {
	if s.set == "" {
		return true // the API server has selected
	}
	owner := metav1.GetControllerOf(obj)
	return owner != nil && owner.Kind == argo.ApplicationSetKind && owner.Name == s.set
}

// names are those of the selected deliveries, as "find" takes them.
func (s *appSelection) names(ctx context.Context, o *appOptions) ([]string, error) {
	match, err := labels.Parse(s.labels)
	if err != nil {
		return nil, usage("--selector: %v", err)
	}
	c, err := o.client()
	if err != nil {
		return nil, err
	}
	options := []client.ListOption{client.InNamespace(o.namespace), client.MatchingLabelsSelector{Selector: match}}
	var apps argo.ApplicationList
	if err := c.List(ctx, &apps, options...); err != nil && !missing(err) {
		return nil, fmt.Errorf("listing Applications: %w", err)
	}
	var kustoms kustomizev1.KustomizationList
	if err := c.List(ctx, &kustoms, options...); err != nil && !missing(err) {
		return nil, fmt.Errorf("listing Kustomizations: %w", err)
	}
	var names []string
	add := func(obj client.Object, plain bool) {
		switch {
		case !s.matches(obj):
		case plain:
			names = append(names, obj.GetName())
		default:
			names = append(names, obj.GetNamespace()+"/"+obj.GetName())
		}
	}
	for i := range apps.Items {
		add(&apps.Items[i], apps.Items[i].Namespace == o.appNamespace())
	}
	for i := range kustoms.Items {
		add(&kustoms.Items[i], false)
	}
	slices.Sort(names)
	return names, nil
}
