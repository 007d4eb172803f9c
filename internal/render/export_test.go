package render

// RestrictCalls is restrictCalls, for the test's probe.
var RestrictCalls = restrictCalls
