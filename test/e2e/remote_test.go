package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A machine that has nothing of the instance but its address and a login asks
// for diffs and manifests and rolls back, as far as its user may.
func TestFromAnotherMachine(t *testing.T) {
	dir := shared.repository(t, "remote", map[string]string{"app/cm.yaml": configMap("remote", "one")})
	shared.apply(t, application("remote", strings.TrimSuffix(shared.status(t).UIURL, "/")+"/git/remote.git", "app", "remote"))
	shared.want(t, "one", "get", "configmap", "remote", "-n", "remote", "-o", "jsonpath={.data.key}")
	good := shared.git(t, dir, "rev-parse", "HEAD")
	shared.push(t, dir, map[string]string{"app/cm.yaml": configMap("remote", "two")})
	shared.want(t, "two", "get", "configmap", "remote", "-n", "remote", "-o", "jsonpath={.data.key}")
	shared.kubectl(t, "create", "serviceaccount", "remote")
	shared.apply(t, bound("remote", "argocd", `
- apiGroups: [argoproj.io]
  resources: [applications]
  resourceNames: [remote]
  verbs: [get]`))

	far := elsewhere(t)
	server := strings.TrimSuffix(shared.status(t).UIURL, "/")
	ask := func(args ...string) []string { return append(args, "--server", server) }
	far.refused(t, "no credential for "+server, ask("app", "diff", "remote")...)
	far.login(t, server, shared.kubectl(t, "create", "token", "remote", "--audience=fairway"))

	if out := far.must(t, ask("app", "diff", "remote")...); out != "" {
		t.Errorf("a difference right after the sync: %s", out)
	}
	out, err := far.run(t.Context(), ask("app", "diff", "remote", "--revision", good)...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(out, "-  key: two") || !strings.Contains(out, "+  key: one") {
		t.Errorf("diff with the revision before: %v\n%s", err, out)
	}
	// What was never deployed may name anybody's objects.
	shared.git(t, dir, "switch", "-q", "-c", "other")
	shared.push(t, dir, map[string]string{"app/cm.yaml": configMap("kube-root-ca.crt", "mine")})
	shared.git(t, dir, "switch", "-q", "main")
	far.refused(t, "may not update applications.argoproj.io argocd/remote", ask("app", "diff", "remote", "--revision", "other")...)
	if out := far.must(t, ask("app", "render", "remote")...); !strings.Contains(out, "key: two") {
		t.Errorf("render: %s", out)
	}
	far.refused(t, "may not update applications.argoproj.io argocd/remote", ask("app", "rollback", "remote")...)
	far.refused(t, "may not get applications.argoproj.io", ask("app", "diff", "no-such-app")...)

	shared.apply(t, bound("remote", "argocd", `
- apiGroups: [argoproj.io]
  resources: [applications]
  verbs: [get, update]`))
	shared.apply(t, bound("remote", "default", `
- apiGroups: [fairway-cd.io]
  resources: [repositories]
  resourceNames: [remote]
  verbs: [get, update]`))
	eventually(t, func() string {
		out, err := far.run(t.Context(), ask("app", "rollback", "remote", "--reason", "two is bad")...)
		if err != nil {
			return err.Error() // a refusal is remembered for seconds
		}
		if !strings.Contains(out, "app/cm.yaml") {
			t.Fatalf("rollback: %s", out)
		}
		return ""
	})
	shared.want(t, "one", "get", "configmap", "remote", "-n", "remote", "-o", "jsonpath={.data.key}")
	shared.git(t, dir, "pull", "-q")
	if by := shared.git(t, dir, "log", "-1", "--format=%an"); by != "system:serviceaccount:default:remote" {
		t.Errorf("the rollback is a commit of %s", by)
	}
	eventually(t, func() string {
		if _, err := far.run(t.Context(), ask("app", "diff", "no-such-app")...); err == nil || !strings.Contains(err.Error(), "there is no Application, Kustomization or HelmRelease no-such-app") {
			return fmt.Sprint(err)
		}
		return ""
	})
	far.refused(t, "name two instances", ask("app", "diff", "remote", "--data", t.TempDir())...)
	far.env = append(far.env, "FAIRWAY_SERVER="+server)
	if out := far.must(t, "app", "render", "remote"); !strings.Contains(out, "key: one") {
		t.Errorf("render after the rollback: %s", out)
	}
	if out := far.must(t, "repo", "list", "-o", "json"); !strings.Contains(out, `"default/remote"`) {
		t.Errorf("repo list: %s", out)
	}
}

// A kubeconfig's token is a credential too, where there is no login, and a
// Kustomization is found by its name, as far as the user may see it.
func TestFromAnotherMachineByKubeconfig(t *testing.T) {
	shared.repository(t, "remote-flux", map[string]string{"app/cm.yaml": configMap("remote-flux", "one")})
	server := strings.TrimSuffix(shared.status(t).UIURL, "/")
	shared.apply(t, fmt.Sprintf(`apiVersion: v1
kind: Namespace
metadata: {name: remote-flux}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: remote-flux-reads, namespace: default}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: fairway-reader}
subjects: [{kind: ServiceAccount, name: default, namespace: remote-flux}]
---
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: remote-flux, namespace: remote-flux}
spec: {interval: 1m, url: %q, ref: {branch: main}}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: remote-flux, namespace: remote-flux}
spec: {interval: 1m, path: ./app, prune: true, targetNamespace: remote-flux, sourceRef: {kind: GitRepository, name: remote-flux}}
`, server+"/git/remote-flux.git"))
	shared.want(t, "one", "get", "configmap", "remote-flux", "-n", "remote-flux", "-o", "jsonpath={.data.key}")
	shared.kubectl(t, "create", "serviceaccount", "remote-flux")
	shared.apply(t, bound("remote-flux", "remote-flux", `
- apiGroups: [kustomize.toolkit.fluxcd.io]
  resources: [kustomizations]
  verbs: [get]`))

	far := elsewhere(t)
	far.kubeconfig(t, shared, shared.kubectl(t, "create", "token", "remote-flux"))
	for _, name := range []string{"remote-flux", "remote-flux/remote-flux"} {
		if out := far.must(t, "app", "render", name, "--server", server); !strings.Contains(out, "key: one") {
			t.Errorf("render %s: %s", name, out)
		}
	}
	far.refused(t, "may not update kustomizations", "app", "rollback", "remote-flux/remote-flux", "--server", server)

	// The token is for https, or for this machine.
	far.refused(t, "must not travel over plain http", "app", "render", "remote-flux", "--server", "http://fairway.example.com")
}

// elsewhere is the program on a machine without an instance: a home of its own
// with nothing in it.
func elsewhere(t *testing.T) *instance {
	t.Helper()
	far := newInstance(shared.bin, filepath.Join(t.TempDir(), "none"))
	far.env = slices.DeleteFunc(far.env, func(v string) bool { return strings.HasPrefix(v, "FAIRWAY_") })
	return far
}

func (i *instance) login(t *testing.T, server, token string) {
	t.Helper()
	i.must(t, "login", server, "--token", token)
	t.Cleanup(func() { _, _ = i.run(context.Background(), "logout", server) })
}

// kubeconfig gives the machine a kubeconfig with the token, for the cluster of
// another instance, and returns its path.
func (i *instance) kubeconfig(t *testing.T, of *instance, token string) string {
	t.Helper()
	var config struct {
		Clusters []struct {
			Name    string          `json:"name"`
			Cluster json.RawMessage `json:"cluster"`
		} `json:"clusters"`
	}
	if err := json.Unmarshal([]byte(of.kubectl(t, "config", "view", "--raw", "-o", "json")), &config); err != nil || len(config.Clusters) != 1 {
		t.Fatalf("the kubeconfig of %s: %v", of.data, err)
	}
	content := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","clusters":[{"name":"there","cluster":%s}],
"users":[{"name":"me","user":{"token":%q}}],
"contexts":[{"name":"me","context":{"cluster":"there","user":"me"}}],"current-context":"me"}`, config.Clusters[0].Cluster, token)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	i.env = append(i.env, "KUBECONFIG="+path)
	return path
}

// bound is a role with these rules in a namespace, for the ServiceAccount of
// the same name in namespace default.
func bound(name, namespace, rules string) string {
	return fmt.Sprintf(`apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: %[1]s, namespace: %[2]s}
rules:%[3]s
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: %[1]s, namespace: %[2]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: %[1]s}
subjects: [{kind: ServiceAccount, name: %[1]s, namespace: default}]
`, name, namespace, rules)
}
