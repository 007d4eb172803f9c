// Package appset makes Applications of an ApplicationSet: generators find sets
// of parameters, a template is filled in with each, and what comes out is
// checked and held against what is there.
//
// It is pure: what generators read from outside they ask of Inputs, and
// templates, which are programs of others, run where Templates says. An error
// anywhere is an error of the whole set: there is no half of a result, so that
// nobody deletes what only could not be found.
package appset
