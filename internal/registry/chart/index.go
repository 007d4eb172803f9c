package chart

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"sort"
	"strings"

	"github.com/Masterminds/semver/v3"
	"go.yaml.in/yaml/v3"
)

// Index is what a Helm repository has (index.yaml,
// helm.sh/docs/topics/chart_repository).
type Index struct {
	// Digest is of the file as it was read, Size its length.
	Digest string
	Size   int64
	charts map[string][]Version
}

// Version is one chart of an index.
type Version struct {
	Version string
	// URL is as the index has it; it may be relative to the repository.
	URL string
	// Digest is "sha256:…" of the archive, or "" where the index has none.
	Digest string
	semver *semver.Version
}

// Charts is how many there are, by name.
func (x *Index) Charts() int { return len(x.charts) }

// parsed is what we read of the file.
type parsed struct {
	APIVersion string                `json:"apiVersion" yaml:"apiVersion"`
	Entries    map[string][]*listing `json:"entries" yaml:"entries"`
}

type listing struct {
	Version string   `json:"version" yaml:"version"`
	URLs    []string `json:"urls" yaml:"urls"`
	Digest  string   `json:"digest" yaml:"digest"`
}

// parseIndex reads the file, in YAML or JSON. Versions that are none, or have
// no URL, are left out, as Helm does.
func parseIndex(data []byte) (*Index, error) {
	var file parsed
	var err error
	if trimmed := bytes.TrimLeft(data, " \t\r\n"); len(trimmed) > 0 && trimmed[0] == '{' {
		err = json.Unmarshal(trimmed, &file)
	} else {
		err = yaml.Unmarshal(data, &file)
	}
	if err != nil {
		return nil, errors.New("index.yaml is neither YAML nor JSON of an index") // the error would quote it
	}
	if file.APIVersion == "" {
		return nil, errors.New("index.yaml has no apiVersion: it is no index of a Helm repository")
	}
	x := &Index{charts: make(map[string][]Version, len(file.Entries))}
	for name, listings := range file.Entries {
		versions := make([]Version, 0, len(listings))
		for _, l := range listings {
			if l == nil || len(l.URLs) == 0 || l.URLs[0] == "" {
				continue
			}
			v, err := semver.NewVersion(l.Version)
			if err != nil {
				continue
			}
			versions = append(versions, Version{Version: l.Version, URL: l.URLs[0], Digest: sha256Digest(l.Digest), semver: v})
		}
		sort.SliceStable(versions, func(a, b int) bool { return versions[a].semver.GreaterThan(versions[b].semver) })
		x.charts[name] = versions
	}
	return x, nil
}

// sha256Digest has the prefix that index files leave out.
func sha256Digest(d string) string {
	d = strings.ToLower(strings.TrimPrefix(d, "sha256:"))
	if len(d) != 64 {
		return ""
	}
	return "sha256:" + d
}

// Find is a chart in a version: one version, a range of which the highest is
// taken, "" for the highest that is no pre-release, or "sha256:…".
func (x *Index) Find(name, version string) (Version, error) {
	all, ok := x.charts[name]
	if !ok {
		return Version{}, &NotFoundError{Chart: name, Err: fmt.Errorf("it is none of the repository's %d charts", len(x.charts))}
	}
	for _, v := range all {
		if v.Version == version || v.Digest != "" && v.Digest == version {
			return v, nil
		}
	}
	if strings.HasPrefix(version, "sha256:") {
		return Version{}, &NotFoundError{Chart: name, Version: version, Err: errors.New("the repository has no such archive any more")}
	}
	if version == "" {
		version = "*"
	}
	within, err := semver.NewConstraint(version)
	if err != nil {
		return Version{}, &InvalidError{Chart: name, Err: fmt.Errorf("version %q is neither a version nor a range: %w", version, err)}
	}
	for _, v := range all {
		if within.Check(v.semver) {
			return v, nil
		}
	}
	return Version{}, &NotFoundError{Chart: name, Version: version, Err: fmt.Errorf("none of its %d versions is in the range", len(all))}
}

// at is where the archive is: in the repository, or elsewhere.
func (v Version) at(repository string) (*url.URL, error) {
	base, err := url.Parse(strings.TrimSuffix(repository, "/") + "/")
	if err != nil {
		return nil, err
	}
	u, err := base.Parse(v.URL)
	if err != nil {
		return nil, err
	}
	switch u.Scheme {
	case "http", "https", "oci":
		return u, nil
	}
	return nil, fmt.Errorf("its URL has the scheme %q", u.Scheme)
}
