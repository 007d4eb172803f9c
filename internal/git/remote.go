package git

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// remote is the URL of a repository, in any of the forms that Git takes for
// what we speak: https, http, ssh, and scp's "user@host:path".
type remote struct {
	scheme         string
	user, password string
	// host has a port only where it is not the scheme's own.
	host string
	// path has no slash at its ends.
	path string
}

// InvalidURLError says that a repository's URL is not one that we speak.
type InvalidURLError struct {
	// URL has no credentials.
	URL    string
	Reason string
}

func (e *InvalidURLError) Error() string {
	return fmt.Sprintf("invalid repository URL %q: %s", e.URL, e.Reason)
}

// HTTPStatus implements problem.Stated.
func (*InvalidURLError) HTTPStatus() int { return http.StatusBadRequest }

// hostPort is a name or an address, and perhaps a port. It does not look like
// an option of ssh.
var hostPort = regexp.MustCompile(`^(\[[0-9a-f:.]+\]|[a-z0-9_][a-z0-9._-]*)(:[0-9]{1,5})?$`)

var defaultPorts = map[string]string{"https": ":443", "http": ":80", "ssh": ":22"}

const maxURL = 2048

// parseRemote reads a repository's URL. The error is an *InvalidURLError.
func parseRemote(s string) (remote, error) {
	if len(s) > maxURL {
		return remote{}, &InvalidURLError{URL: s[:64] + "…", Reason: "it is too long"}
	}
	for _, r := range s {
		if r <= ' ' || r == 0x7f {
			return remote{}, &InvalidURLError{URL: withoutUser(s), Reason: "it has a space or a control character"}
		}
	}
	if !strings.Contains(s, "://") {
		return parseSCP(s)
	}
	u, err := url.Parse(s)
	if err != nil {
		return remote{}, &InvalidURLError{URL: withoutUser(s), Reason: "it cannot be parsed"}
	}
	r := remote{scheme: strings.ToLower(u.Scheme), host: strings.ToLower(u.Host), path: u.Path}
	r.user = u.User.Username()
	r.password, _ = u.User.Password()
	switch r.scheme {
	case "https", "http", "ssh":
	case "git+ssh", "ssh+git":
		r.scheme = "ssh"
	default:
		return remote{}, &InvalidURLError{URL: u.Redacted(), Reason: fmt.Sprintf("protocol %q is not supported, want https, http or ssh", u.Scheme)}
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return remote{}, &InvalidURLError{URL: r.String(), Reason: "it has a query or a fragment"}
	}
	r.host = strings.TrimSuffix(r.host, defaultPorts[r.scheme])
	return r.checked()
}

// parseSCP reads "[user@]host:path", git-clone(1).
func parseSCP(s string) (remote, error) {
	host, p, ok := strings.Cut(s, ":")
	if !ok || strings.Contains(host, "/") {
		return remote{}, &InvalidURLError{URL: withoutUser(s), Reason: "want https://HOST/PATH, ssh://USER@HOST/PATH or USER@HOST:PATH"}
	}
	r := remote{scheme: "ssh", path: p}
	if user, h, ok := strings.Cut(host, "@"); ok {
		r.user, host = user, h
	}
	r.host = strings.ToLower(host)
	return r.checked()
}

func (r remote) checked() (remote, error) {
	r.path = strings.Trim(r.path, "/")
	switch {
	case !hostPort.MatchString(r.host):
		return remote{}, &InvalidURLError{URL: r.String(), Reason: "it names no host"}
	case r.path == "" || r.path == ".git":
		return remote{}, &InvalidURLError{URL: r.String(), Reason: "it names no repository"}
	case !isClean(r.path): // or it would have as many names as one likes
		return remote{}, &InvalidURLError{URL: r.String(), Reason: "its path has an empty part, '.' or '..'"}
	case strings.HasPrefix(r.user, "-") || strings.ContainsAny(r.user, " \n"):
		return remote{}, &InvalidURLError{URL: r.String(), Reason: "it has an invalid user"}
	}
	for _, c := range r.path + r.host + r.user {
		if c < ' ' || c == 0x7f {
			return remote{}, &InvalidURLError{URL: r.scheme + "://…", Reason: "it has a control character"}
		}
	}
	return r, nil
}

// withoutUser cuts what may be credentials off a string that is no URL.
func withoutUser(s string) string {
	if i := strings.LastIndex(s, "@"); i >= 0 {
		s = "…@" + s[i+1:]
	}
	return s
}

// String is the URL without a password, and for http without the user, which
// may be a token.
func (r remote) String() string {
	u := url.URL{Scheme: r.scheme, Host: r.host, Path: "/" + r.path}
	if r.scheme == "ssh" && r.user != "" {
		u.User = url.User(r.user)
	}
	return u.String()
}

// forGit is the URL as an argument of git. It has no credentials.
func (r remote) forGit() string { return r.String() }

// key is the same for all forms of a repository's URL: "github.com/org/repo".
func (r remote) key() string { return r.host + "/" + strings.TrimSuffix(r.path, ".git") }
