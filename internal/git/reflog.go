package git

import (
	"bytes"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// reflogLine is one line of a reflog: gitrepository-layout(5) and git's
// refs/files-backend.c,
//
//	OLD SP NEW SP NAME SP <EMAIL> SP SECONDS SP ZONE [TAB MESSAGE] LF
type reflogLine struct {
	// Old and New are empty for the null hash.
	Old, New string
	// Who is the user who pushed, where it was through this package.
	Who  string
	When time.Time
}

// pushEmail marks the reflog lines that this package caused, so that the name
// before it can be trusted to be a Kubernetes user's and not that of somebody
// who ran git in the repository by hand.
const pushEmail = "push@fairway-cd.io"

// parseReflogLine reads one line without its line feed.
func parseReflogLine(line []byte) (reflogLine, bool) {
	line, _, _ = bytes.Cut(line, []byte{'\t'})
	head, rest, ok := strings.Cut(string(line), " <")
	if !ok {
		return reflogLine{}, false
	}
	email, stamp, ok := strings.Cut(rest, "> ")
	if !ok {
		return reflogLine{}, false
	}
	old, head, _ := strings.Cut(head, " ")
	new, name, _ := strings.Cut(head, " ")
	seconds, _, _ := strings.Cut(stamp, " ")
	unix, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil || unix < 0 || !hexHash.MatchString(old) || len(old) != len(new) || !hexHash.MatchString(new) {
		return reflogLine{}, false
	}
	l := reflogLine{Old: notNull(old), New: notNull(new), When: time.Unix(unix, 0).UTC()}
	if email == pushEmail {
		l.Who, err = url.QueryUnescape(name)
	}
	return l, err == nil
}

// notNull is the hash, or empty for the null hash.
func notNull(hash string) string {
	if strings.Trim(hash, "0") == "" {
		return ""
	}
	return hash
}

// committerEnv is the identity under which git writes the reflog of a push by
// who. Git drops some characters from names (ident.c), so the name is escaped.
func committerEnv(who string) []string {
	return []string{
		"GIT_COMMITTER_NAME=" + strings.ReplaceAll(url.QueryEscape(who), ".", "%2E"),
		"GIT_COMMITTER_EMAIL=" + pushEmail,
	}
}
