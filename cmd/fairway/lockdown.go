package main

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/validation"

	"github.com/fairway-cd/fairway/internal/controller"
)

// addLockdownFlags adds Flux' own flags of multi-tenancy.
func addLockdownFlags(f *pflag.FlagSet, l *controller.Lockdown) {
	f.StringVar(&l.DefaultServiceAccount, "default-service-account", "", "as which ServiceAccount of their namespace Kustomizations and HelmReleases act that name none (default: as Fairway)")
	f.BoolVar(&l.NoCrossNamespaceRefs, "no-cross-namespace-refs", false, "refuse Kustomizations and HelmReleases whose source is in another namespace")
}

// layLockdown lays the flags that were given over what is remembered.
func layLockdown(f *pflag.FlagSet, given controller.Lockdown, over *controller.Lockdown) error {
	if f.Changed("default-service-account") {
		if name := given.DefaultServiceAccount; name != "" {
			if problems := validation.ValidateServiceAccountName(name, false); len(problems) > 0 {
				return &exitError{exitUsage, fmt.Errorf("--default-service-account %q: %s", name, strings.Join(problems, "; "))}
			}
		}
		over.DefaultServiceAccount = given.DefaultServiceAccount
	}
	if f.Changed("no-cross-namespace-refs") {
		over.NoCrossNamespaceRefs = given.NoCrossNamespaceRefs
	}
	return nil
}
