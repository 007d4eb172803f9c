// Package scm asks GitHub, GitLab, Gitea and Bitbucket for the repositories of
// an organisation and the open pull requests of a repository, for the
// generators of ApplicationSets.
//
// It makes a dozen kinds of GET requests, and no others. Answers, pages and
// the number of requests are bounded, and a credential goes to the host that
// it is for: not to another one that a page or a redirect names.
package scm
