// Package testkit holds the real parts that tests run against: an API server,
// Git work trees, and the corpus of other people's manifests. Nothing in it
// imitates anything.
package testkit
