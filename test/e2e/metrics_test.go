package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// The page about metrics names what is served, all of it and nothing else, the
// dashboard asks for nothing else, and Prometheus understands both.
func TestMetrics(t *testing.T) {
	shared.repository(t, "metrics", map[string]string{"app/cm.yaml": configMap("metrics", "one")})
	shared.apply(t, application("metrics", publicGitURL(t)+"/metrics.git", "app", "metrics"))
	shared.says(t, "metrics", syncState, "Synced")
	shared.kubectl(t, "create", "serviceaccount", "metrics-reader")
	shared.kubectl(t, "create", "clusterrole", "metrics-reader", "--verb=get", "--resource=nodes", "--resource-name=metrics")
	shared.kubectl(t, "create", "clusterrolebinding", "metrics-reader", "--clusterrole=metrics-reader", "--serviceaccount=default:metrics-reader")
	token := shared.kubectl(t, "create", "token", "metrics-reader")
	served := servedMetrics(t, token)
	documented, conditional := documentedMetrics(t)
	for _, name := range served {
		if !slices.ContainsFunc(documented, func(pattern string) bool { ok, _ := path.Match(pattern, name); return ok }) {
			t.Errorf("%s is served, and docs/spec/metrics.md does not name it", name)
		}
	}
	for _, pattern := range documented {
		if !conditional[pattern] && !slices.ContainsFunc(served, func(name string) bool { ok, _ := path.Match(pattern, name); return ok }) {
			t.Errorf("docs/spec/metrics.md names %s, which is not served", pattern)
		}
	}
	queries := dashboardQueries(t)
	for _, q := range queries {
		for _, name := range metricName.FindAllString(q, -1) {
			family := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
			if !slices.Contains(served, family) && !slices.Contains(served, name) {
				t.Errorf("the dashboard asks for %s, which is not served: %s", name, q)
			}
		}
	}
	prometheus(t, token, queries)
}

// metricName finds the names of metrics in a query: they have a prefix that no
// function or label has.
var metricName = regexp.MustCompile(`\b(fairway|workqueue|controller_runtime|rest_client|process|go|certwatcher)_[a-z0-9_]+`)

// servedMetrics are the names of what the shared instance serves.
func servedMetrics(t *testing.T, token string) []string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, strings.TrimSuffix(shared.status(t).UIURL, "/")+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s %v: %s", answer.Status, err, body)
	}
	var names []string
	for line := range strings.Lines(string(body)) {
		if fields := strings.Fields(line); len(fields) == 4 && fields[1] == "TYPE" {
			names = append(names, fields[2])
		}
	}
	return names
}

// documentedMetrics are the names in the tables' first column, where "*" stands
// for anything, and those of them that are there only where it says so.
func documentedMetrics(t *testing.T) (names []string, conditional map[string]bool) {
	t.Helper()
	page, err := os.ReadFile("../../docs/spec/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	conditional = map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z0-9_*]+)` .*$").FindAllStringSubmatch(string(page), -1) {
		names = append(names, m[1])
		conditional[m[1]] = strings.Contains(m[0], "(only ")
	}
	return names, conditional
}

// dashboardQueries are all queries of the dashboard.
func dashboardQueries(t *testing.T) []string {
	t.Helper()
	data, err := os.ReadFile("../../config/grafana-dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	if err := json.Unmarshal(data, &board); err != nil {
		t.Fatal(err)
	}
	var queries []string
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			queries = append(queries, target.Expr)
		}
	}
	if len(queries) == 0 {
		t.Fatal("the dashboard asks for nothing")
	}
	return queries
}

// prometheus runs one that scrapes the instance, and asks it the queries.
func prometheus(t *testing.T, token string, queries []string) {
	t.Helper()
	program, err := program("FAIRWAY_PROMETHEUS", "oracle/prometheus")
	if err != nil {
		if program, err = exec.LookPath("prometheus"); err != nil {
			t.Fatal("no prometheus to ask: 'make oracle' gets it")
		}
	}
	dir := t.TempDir()
	server, err := url.Parse(shared.status(t).UIURL)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"token": token,
		"prometheus.yml": fmt.Sprintf("scrape_configs:\n- job_name: fairway\n  scrape_interval: 1s\n  authorization: {credentials_file: %s}\n  static_configs: [{targets: [%q]}]\n",
			filepath.Join(dir, "token"), server.Host),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	address := fmt.Sprintf("127.0.0.1:%d", freePort())
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, program, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	defer func() { cancel(); _ = cmd.Wait() }()
	for _, q := range queries {
		eventually(t, func() string {
			if err := answered(ctx, address, q); err != nil {
				return fmt.Sprintf("%s: %v", q, err)
			}
			return ""
		})
	}
}

// answered says why Prometheus has no result for the query.
func answered(ctx context.Context, address, query string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/api/v1/query?query="+url.QueryEscape(query), nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	var said struct {
		Status, Error string
		Data          struct{ Result []json.RawMessage }
	}
	if err := json.NewDecoder(answer.Body).Decode(&said); err != nil {
		return err
	}
	if said.Status != "success" {
		return errors.New(said.Error)
	}
	if len(said.Data.Result) == 0 {
		return errors.New("no result")
	}
	return nil
}
