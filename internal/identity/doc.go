// Package identity says who is asking and what they may do, by asking
// Kubernetes: who, by TokenReview; what, by SubjectAccessReview. There are no
// users, passwords or permissions of Fairway's own. People are whatever users
// the cluster has; robots are ServiceAccounts (Robots). docs/design/identity.md
// has the reasons.
package identity
