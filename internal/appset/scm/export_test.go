package scm

// NextLink is nextLink for fuzzing.
var NextLink = nextLink
