// Package internal is the house. The way of a change through it:
//
//	 1  git       the truth: mirrors, smart HTTP server, objects without a work tree
//	 2  pipeline  workflow files → jobs → steps                        (to come)
//	 3  build     source → image, on BuildKit, in a process of its own
//	 4  registry  images and their evidence: OCI over HTTP
//	 5  manifest  a new digest → a commit in the deployment repository (to come)
//	 6  render    Git tree → objects: kustomize, Helm, plain
//	 7  deploy    objects → cluster: order, server-side apply, prune, health
//	 8  drift     watch what is managed; say what changed
//	 9  rollout   revisions → traffic, judged by analysis              (to come)
//	10  promote   environment → environment, through gates             (to come)
//	11  audit     evidence out                                         (to come)
//
// Beside the stages:
//
//	core        the words that all of them speak; imports no sibling
//	controller  thin reconcilers, one a kind: load, call the stage, write status
//	fleet       deploy and drift of many clusters, each by its credential
//	footprint   gives back the memory that a burst of work has left
//	shard       which deliveries are which replica's, by Leases
//	orphan      objects of a namespace that nobody has asked for
//	signature   who has signed a commit
//	syncwindow  when a project lets its Applications be synced
//	identity    who you are, what you may do: asked of Kubernetes
//	web         HTTP API, server-sent events, UI
//	app         the only package that wires stages together
//	testkit     in-process Git, registry, API server for tests
//
// A stage imports core and its own libraries, never a neighbour. The linter
// (depguard, in .golangci.yml) holds that.
package internal
