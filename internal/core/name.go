package core

import (
	"fmt"
	"regexp"
	"strings"
)

// DefaultNamespace is the tenant of a name that names none.
const DefaultNamespace = "default"

// Name is the name of a Git repository or of an image repository on this
// instance. Namespace is the Kubernetes namespace and so the tenant; Name may
// have several segments for images ("library/python" is namespace library,
// name python; "a/b/c" is namespace a, name b/c).
type Name struct {
	Namespace string
	Name      string
}

// segment is what Kubernetes allows as an object name (RFC 1123 subdomain),
// which is also a valid path segment for Git and for OCI repository names.
var segment = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$`)

// ParseName reads "NAME" (namespace default) or "NAMESPACE/NAME[/MORE]".
// The error is an *InvalidNameError.
func ParseName(s string) (Name, error) {
	parts := strings.Split(s, "/")
	for _, p := range parts {
		if !segment.MatchString(p) || strings.Contains(p, "..") {
			return Name{}, &InvalidNameError{Name: s}
		}
	}
	if len(parts) == 1 {
		return Name{Namespace: DefaultNamespace, Name: parts[0]}, nil
	}
	return Name{Namespace: parts[0], Name: strings.Join(parts[1:], "/")}, nil
}

// String is the canonical form, NAMESPACE/NAME, always with the namespace.
func (n Name) String() string { return n.Namespace + "/" + n.Name }

// Short leaves the default namespace out, as people write it.
func (n Name) Short() string {
	if n.Namespace == DefaultNamespace {
		return n.Name
	}
	return n.String()
}

// InvalidNameError says that a repository or image name is not one.
type InvalidNameError struct{ Name string }

func (e *InvalidNameError) Error() string {
	return fmt.Sprintf("invalid name %q: want NAME or NAMESPACE/NAME in lower-case letters, digits, '-', '_' and '.'", e.Name)
}

// NoNamespaceError says that the tenant of a name is not there: Fairway makes
// repositories, but namespaces are their cluster's to give.
type NoNamespaceError struct{ Namespace string }

func (e *NoNamespaceError) Error() string {
	return fmt.Sprintf("namespace %s does not exist", e.Namespace)
}

// Hint implements Hinted.
func (e *NoNamespaceError) Hint() string {
	return "make it with 'fairway kubectl create namespace " + e.Namespace + "'"
}
