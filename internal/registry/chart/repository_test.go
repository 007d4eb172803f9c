package chart_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/registry/chart"
)

// files is a Helm repository: paths to contents, with or without a password.
type files struct {
	at       map[string]string
	password string
	asked    atomic.Int64
	sent     atomic.Int64 // with a body
	leaked   atomic.Int64 // requests with a password
}

func (f *files) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.asked.Add(1)
	_, password, given := r.BasicAuth()
	if given {
		f.leaked.Add(1)
	}
	if f.password != "" && password != f.password {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	content, ok := f.at[r.URL.Path]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if to, ok := strings.CutPrefix(content, "->"); ok {
		http.Redirect(w, r, to, http.StatusFound)
		return
	}
	sum := sha256.Sum256([]byte(content))
	etag := `"` + hex.EncodeToString(sum[:]) + `"`
	w.Header().Set("ETag", etag)
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	f.sent.Add(1)
	_, _ = w.Write([]byte(content))
}

func index(entries ...string) string {
	return "apiVersion: v1\nentries:\n  web:\n" + strings.Join(entries, "")
}

func entry(version, url, archive string) string {
	sum := sha256.Sum256([]byte(archive))
	return fmt.Sprintf("  - {name: web, version: %q, urls: [%q], digest: %x}\n", version, url, sum)
}

func helmRepository(t *testing.T) (*files, *httptest.Server) {
	t.Helper()
	f := &files{at: map[string]string{}}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	var entries []string
	for _, v := range []string{"1.0.0", "1.10.0", "1.2.0", "2.0.0-rc.1"} {
		archive := string(packed(t, "web", v))
		f.at["/charts/web-"+v+".tgz"] = archive
		entries = append(entries, entry(v, "web-"+v+".tgz", archive))
	}
	f.at["/charts/index.yaml"] = index(entries...)
	return f, server
}

func TestRepository(t *testing.T) {
	f, server := helmRepository(t)
	repos := chart.NewRepositories(chart.New(chart.Options{Cache: chart.NewCache(1 << 20)}))
	repo := chart.Repository{URL: server.URL + "/charts/"}
	for asked, want := range map[string]string{"": "1.10.0", "^1.0": "1.10.0", "~1.2": "1.2.0", "1.0.0": "1.0.0", ">=2.0.0-0": "2.0.0-rc.1"} {
		snap, err := repos.OpenChart(t.Context(), repo, "web", asked, false)
		if err != nil {
			t.Fatalf("%q: %v", asked, err)
		}
		content, err := snap.Tree.Read(t.Context(), "Chart.yaml")
		if err != nil || !strings.Contains(string(content), "version: "+want+"\n") || snap.Revision.Ref != "refs/tags/"+want {
			t.Errorf("%q is %s %q, %v", asked, snap.Revision, content, err)
		}
		sent := f.sent.Load()
		again, err := repos.OpenChart(t.Context(), repo, "web", snap.Revision.Commit, false)
		if err != nil || again.Revision != snap.Revision || f.sent.Load() != sent {
			t.Errorf("by digest it is %s, %v, and it was sent again: %v", again.Revision, err, f.sent.Load() != sent)
		}
	}
	first, err := repos.Index(t.Context(), repo, false)
	if err != nil {
		t.Fatal(err)
	}
	asked, sent := f.asked.Load(), f.sent.Load()
	same, err := repos.Index(t.Context(), repo, true)
	if err != nil || same != first || f.asked.Load() != asked+1 || f.sent.Load() != sent {
		t.Errorf("an unchanged index was sent again, %v", err)
	}
	archive := string(packed(t, "web", "3.0.0"))
	f.at["/charts/web-3.0.0.tgz"] = archive
	f.at["/charts/index.yaml"] += entry("3.0.0", "web-3.0.0.tgz", archive)
	if _, err := repos.OpenChart(t.Context(), repo, "web", "3.0.0", false); err != nil {
		t.Errorf("a version that is newer than the index: %v", err)
	}
	if next, err := repos.Index(t.Context(), repo, false); err != nil || next.Digest == first.Digest {
		t.Errorf("the index is still %v, %v", next, err)
	}
}

func TestRepositoryErrors(t *testing.T) {
	f, server := helmRepository(t)
	other := &files{at: map[string]string{}}
	elsewhere := httptest.NewServer(other)
	defer elsewhere.Close()
	archive := string(packed(t, "web", "1.0.0"))
	other.at["/web.tgz"] = archive
	f.password = "s3cret"
	f.at["/bad/index.yaml"] = "[1"
	f.at["/page/index.yaml"] = "<html></html>"
	f.at["/lies/index.yaml"] = index(entry("1.0.0", "web.tgz", "something else"))
	f.at["/lies/web.tgz"] = archive
	f.at["/file/index.yaml"] = index(entry("1.0.0", "file:///etc/passwd", ""))
	f.at["/loop/index.yaml"] = "->/loop/index.yaml"
	f.at["/big/index.yaml"] = strings.Repeat("# x\n", 1<<20)
	limits := chart.Limits{Index: 1 << 20}
	for name, c := range map[string]struct {
		path, password string
		want           any
	}{
		"wrong password": {"/charts", "wrong", new(*chart.AuthError)},
		"not there":      {"/nowhere", "s3cret", new(*chart.NotFoundError)},
		"no YAML":        {"/bad", "s3cret", new(*chart.InvalidError)},
		"a page":         {"/page", "s3cret", new(*chart.InvalidError)},
		"other digest":   {"/lies", "s3cret", new(*chart.InvalidError)},
		"a file":         {"/file", "s3cret", new(*chart.InvalidError)},
		"endless":        {"/loop", "s3cret", new(*chart.UnreachableError)},
		"too large":      {"/big", "s3cret", new(*core.TooLargeError)},
	} {
		repos := chart.NewRepositories(chart.New(chart.Options{Limits: limits}))
		repo := chart.Repository{URL: server.URL + c.path, Username: "me", Password: c.password}
		_, err := repos.OpenChart(t.Context(), repo, "web", "1.0.0", true)
		if err == nil || !errors.As(err, c.want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %T %v", name, err, err)
		}
	}
	// Credentials stay at home, unless they are to be passed.
	f.at["/away/index.yaml"] = index(entry("1.0.0", elsewhere.URL+"/web.tgz", archive))
	f.at["/moved/index.yaml"] = index(entry("1.0.0", "web.tgz", archive))
	f.at["/moved/web.tgz"] = "->" + elsewhere.URL + "/web.tgz"
	for _, path := range []string{"/away", "/moved"} {
		for _, pass := range []bool{false, true} {
			other.leaked.Store(0)
			repos := chart.NewRepositories(chart.New(chart.Options{}))
			repo := chart.Repository{URL: server.URL + path, Username: "me", Password: "s3cret", PassCredentials: pass}
			if _, err := repos.OpenChart(t.Context(), repo, "web", "", false); err != nil || (other.leaked.Load() > 0) != pass {
				t.Errorf("%s, passing %v: %v, the other host got %d passwords", path, pass, err, other.leaked.Load())
			}
		}
	}
}

func TestRepositoryTLS(t *testing.T) {
	f, _ := helmRepository(t)
	secure := httptest.NewTLSServer(f)
	defer secure.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	repos := chart.NewRepositories(chart.New(chart.Options{}))
	if _, err := repos.Index(t.Context(), chart.Repository{URL: secure.URL + "/charts"}, true); !errors.As(err, new(*chart.UnreachableError)) {
		t.Errorf("without its CA: %v", err)
	}
	if _, err := repos.Index(t.Context(), chart.Repository{URL: secure.URL + "/charts", CA: ca}, true); err != nil {
		t.Errorf("with its CA: %v", err)
	}
	if _, err := repos.Index(t.Context(), chart.Repository{URL: secure.URL + "/charts", CA: []byte("no")}, true); !errors.As(err, new(*chart.InvalidError)) {
		t.Errorf("with a CA that is none: %v", err)
	}
}

// TestIndexRefersToRegistry follows an index whose charts are in a registry.
func TestIndexRefersToRegistry(t *testing.T) {
	h := serve(t)
	h.push(t, "web", "1.0.0")
	f := &files{at: map[string]string{"/index.yaml": index(entry("1.0.0", "oci://"+h.host+"/charts/web:1.0.0", ""))}}
	server := httptest.NewServer(f)
	defer server.Close()
	repos := chart.NewRepositories(charts(h, true)["from within"])
	snap, err := repos.OpenChart(t.Context(), chart.Repository{URL: server.URL}, "web", "", false)
	if err != nil || snap.Revision.Ref != "refs/tags/1.0.0" {
		t.Errorf("%+v, %v", snap.Revision, err)
	}
}
