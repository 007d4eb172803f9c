// Package core holds the few words that every stage of the house speaks:
// where a source stands (Revision, Tree), what an image is called (Image),
// who is asking and what for (User, Action, Access), and what has happened
// (RefUpdate). It imports no sibling, so that stages can stay strangers to
// each other and still be composed by package app.
package core
