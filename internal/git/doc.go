// Package git is the first stage of the house: it holds the truth.
//
// A Store keeps bare repositories below one directory: embedded ones, which
// people push to over smart HTTP (Handler), and mirrors of external ones,
// which Fetch brings up to date. Resolve gives any of them as a core.Snapshot,
// whose tree is read straight from Git's objects, with no work tree. Every ref
// that moves is an event: the repository's own reflog is the outbox, and Run
// delivers what a durable cursor has not ticked off, also after a crash.
//
// Transport, packs and checks are the work of the git program. This package
// starts it with an environment of its own, so that no configuration, hook or
// credential of the machine has a say.
package git
