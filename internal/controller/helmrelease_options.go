package controller

import (
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"helm.sh/helm/v4/pkg/release/common"

	"github.com/fairway-cd/fairway/internal/release"
)

func (h *helmReleaseRun) installOptions(last *release.Record) release.Options {
	in := h.hr.GetInstall()
	o := release.Options{
		Source:  h.source,
		Timeout: in.GetTimeout(h.hr.GetTimeout()).Duration, DisableWait: in.DisableWait, WaitForJobs: !in.DisableWaitForJobs, PollToWait: h.polls(), Health: h.health(),
		DisableHooks: in.DisableHooks, SkipOpenAPIValidation: in.DisableOpenAPIValidation, TakeOwnership: !in.DisableTakeOwnership,
		CreateNamespace: in.CreateNamespace, CRDs: crdPolicy(in.CRDs, release.CreateCRDs),
		// What a remediation has left of itself does not block the name.
		Replace: in.Replace || last != nil && last.Info.Status == common.StatusUninstalled,
	}
	if in.SkipCRDs {
		o.CRDs = release.SkipCRDs
	}
	if in.ServerSideApply != nil && !*in.ServerSideApply {
		o.ServerSide = "false"
	}
	return o
}

func (h *helmReleaseRun) upgradeOptions() release.Options {
	up := h.hr.GetUpgrade()
	return release.Options{
		Source:  h.source,
		Timeout: up.GetTimeout(h.hr.GetTimeout()).Duration, DisableWait: up.DisableWait, WaitForJobs: !up.DisableWaitForJobs, PollToWait: h.polls(), Health: h.health(),
		DisableHooks: up.DisableHooks, SkipOpenAPIValidation: up.DisableOpenAPIValidation, TakeOwnership: !up.DisableTakeOwnership,
		Force: up.Force, CleanupOnFail: up.CleanupOnFail, ServerSide: serverSide(up.ServerSideApply),
		MaxHistory: h.hr.GetMaxHistory(), CRDs: crdPolicy(up.CRDs, release.SkipCRDs),
	}
}

func (h *helmReleaseRun) rollbackOptions() release.Options {
	back := h.hr.GetRollback()
	return release.Options{
		Timeout: back.GetTimeout(h.hr.GetTimeout()).Duration, DisableWait: back.DisableWait, WaitForJobs: !back.DisableWaitForJobs, PollToWait: h.polls(), Health: h.health(),
		DisableHooks: back.DisableHooks, Force: back.Force, CleanupOnFail: back.CleanupOnFail,
		ServerSide: serverSide(back.ServerSideApply), MaxHistory: h.hr.GetMaxHistory(),
	}
}

func (h *helmReleaseRun) uninstallOptions() release.Options {
	un := h.hr.GetUninstall()
	return release.Options{
		Timeout: un.GetTimeout(h.hr.GetTimeout()).Duration, DisableWait: un.DisableWait, PollToWait: h.polls(),
		DisableHooks: un.DisableHooks, KeepHistory: un.KeepHistory, Propagation: un.GetDeletionPropagation(),
	}
}

func (h *helmReleaseRun) testOptions() release.Options {
	test := h.hr.GetTest()
	o := release.Options{Timeout: test.GetTimeout(h.hr.GetTimeout()).Duration}
	for _, f := range test.GetFilters() {
		if f.Exclude {
			o.SkipTests = append(o.SkipTests, f.Name)
		} else {
			o.Tests = append(o.Tests, f.Name)
		}
	}
	return o
}

func (h *helmReleaseRun) polls() bool { return h.hr.GetWaitStrategy() == helmv2.WaitStrategyLegacy }

func crdPolicy(p helmv2.CRDsPolicy, unset release.CRDPolicy) release.CRDPolicy {
	switch p {
	case "":
		return unset
	case helmv2.Create:
		return release.CreateCRDs
	case helmv2.CreateReplace:
		return release.CreateReplace
	}
	return release.SkipCRDs
}

func serverSide(mode helmv2.ServerSideApplyMode) string {
	switch mode {
	case helmv2.ServerSideApplyEnabled:
		return "true"
	case helmv2.ServerSideApplyDisabled:
		return "false"
	}
	return "auto"
}
