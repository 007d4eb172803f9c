// Package controller reconciles deliveries: Argo CD's Application and
// AppProject, Flux' GitRepository and Kustomization.
//
// The reconcilers are thin. An adapter (application_*.go, kustomization_*.go)
// reads an object of its dialect into the one internal model of a delivery
// (delivery.go), the stages do the work (stages.go), and the adapter writes
// the dialect's own status back. What must survive the process is in that
// status; what is in memory (state.go) only saves work.
//
// Everything is driven by events: a moved reference (Engine.RefUpdated), a
// drifted object (the drift watch), a changed object of ours (the cache's
// watch). Timers are for what cannot call us.
package controller
