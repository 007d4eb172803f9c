package main

import (
	"fmt"
	"strings"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// forFlux refuses what an object of Flux' kinds cannot be asked for: it is
// reconciled to what its spec says, and nothing else.
func (f *appSyncFlags) forFlux(state fluxState, name string) error {
	var given []string
	for _, flag := range []struct {
		name string
		set  bool
	}{
		{"--revision", f.revision != ""}, {"--prune", f.prune}, {"--dry-run", f.dryRun}, {"--force", f.force},
		{"--resource", len(f.resources) > 0}, {"--sync-option", len(f.syncOptions) > 0}, {"--strategy", f.strategy != ""},
		{"--apply-out-of-sync-only", f.outOfSyncOnly}, {"--replace", f.replace}, {"--retry-limit", f.retryLimit != 0},
	} {
		if flag.set {
			given = append(given, flag.name)
		}
	}
	switch {
	case len(given) > 0:
		return &exitError{exitUsage, withHint(
			fmt.Errorf("%s is a %s, for which there is no %s", name, state.kind, strings.Join(given, ", ")), insteadOf(state.kind, given[0], name))}
	case state.suspended:
		return withHint(fmt.Errorf("%s is suspended, and is not reconciled", name), "set spec.suspend to false")
	}
	return nil
}

// insteadOf says how a kind of Flux is asked for what the flag is for.
func insteadOf(kind, flag, name string) string {
	helm := kind == helmv2.HelmReleaseKind
	switch {
	case flag == "--revision" && helm:
		return "the chart's version is in its spec"
	case flag == "--revision":
		return "'fairway app pin " + name + " --revision REVISION' holds it at one"
	case flag == "--dry-run":
		return "'fairway app diff " + name + "' says what would change"
	case flag == "--force" && helm:
		return "annotate it with reconcile.fluxcd.io/forceAt, or set spec.upgrade.force"
	case flag == "--prune" && helm:
		return "an upgrade removes what the chart does not have any more"
	}
	return "how it is applied is in its spec"
}

// keepDeployed says how the object goes and what it deployed stays.
func keepDeployed(obj client.Object) string {
	if _, ok := obj.(*helmv2.HelmRelease); ok {
		return "set its spec.suspend to true to keep the release"
	}
	return "set its spec.deletionPolicy to Orphan to keep what it deployed"
}
