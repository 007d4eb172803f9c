package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// ask is a GET of the API with a token.
func ask(t *testing.T, token, path string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, shared.status(t).UIURL+"api/v1/"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { answer.Body.Close() })
	return answer
}

// asked is the body of such a request, which must be answered with the status.
func asked(t *testing.T, token, path string, status int) string {
	t.Helper()
	answer := ask(t, token, path)
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != status {
		t.Fatalf("GET %s: %s, want %d: %s %v", path, answer.Status, status, body, err)
	}
	return string(body)
}

// inViews are the namespaces and names of a list, as far as they are of this
// test.
func inViews(t *testing.T, list string) []string {
	t.Helper()
	var all []struct{ Namespace, Name string }
	if err := json.Unmarshal([]byte(list), &all); err != nil {
		t.Fatalf("%q: %v", list, err)
	}
	var names []string
	for _, one := range all {
		name := strings.TrimPrefix(one.Namespace+"/"+one.Name, "/")
		if strings.HasPrefix(name, "view-") {
			names = append(names, name)
		} else if len(all) > 0 && one.Namespace != "" {
			names = append(names, "elsewhere")
		}
	}
	return slices.Compact(names)
}

// Who has rights in a namespace sees what is in it, in lists and in events, and
// nothing else; who has them everywhere sees all; who may pull one repository
// sees that one.
func TestEachUserSeesTheirs(t *testing.T) {
	for _, ns := range []string{"view-a", "view-b"} {
		ensureNamespace(t, ns)
		shared.repository(t, ns+"/source", map[string]string{"app/cm.yaml": configMap("c", "one")})
		shared.apply(t, strings.ReplaceAll(flux("web", ns, publicGitURL(t)+"/"+ns+"/source.git", "./app", ""), "namespace: default", "namespace: "+ns))
		shared.want(t, "one", "get", "configmap", "c", "-n", ns, "-o", "jsonpath={.data.key}")
	}
	account := func(name string, binding ...string) (token string) {
		shared.kubectl(t, "create", "serviceaccount", name)
		if len(binding) > 0 {
			shared.kubectl(t, append(binding, "--serviceaccount=default:"+name)...)
		}
		return shared.kubectl(t, "create", "token", name, "--audience=fairway")
	}
	everyone := account("view-all", "create", "clusterrolebinding", "view-all", "--clusterrole=fairway-viewer")
	team := account("view-team", "create", "rolebinding", "view-team", "-n", "view-a", "--clusterrole=view")
	stranger := account("view-stranger")
	robot := strings.TrimSpace(shared.must(t, "token", "create", "view-robot", "--can", "repo:pull:view-b/source"))

	for name, c := range map[string]struct {
		token                    string
		deliveries, repositories []string
	}{
		"everything":     {everyone, []string{"view-a/web", "view-b/web"}, []string{"view-a/source", "view-b/source"}},
		"a namespace":    {team, []string{"view-a/web"}, []string{"view-a/source"}},
		"nothing":        {stranger, nil, nil},
		"one repository": {robot, nil, []string{"view-b/source"}},
	} {
		t.Run(name, func(t *testing.T) {
			theirs := func(list string) []string {
				return slices.DeleteFunc(inViews(t, list), func(n string) bool { return n == "elsewhere" && c.token == everyone })
			}
			// A role that was just bound is not in every answer yet.
			eventually(t, func() string {
				if got := theirs(asked(t, c.token, "deliveries", 200)); !slices.Equal(got, c.deliveries) {
					return fmt.Sprintf("deliveries: %q, want %q", got, c.deliveries)
				}
				// A GitRepository and the Kustomization of it have one name.
				if got := theirs(asked(t, c.token, "sources", 200)); !slices.Equal(got, c.deliveries) {
					return fmt.Sprintf("sources: %q, want %q", got, c.deliveries)
				}
				if got := theirs(asked(t, c.token, "repositories", 200)); !slices.Equal(got, c.repositories) {
					return fmt.Sprintf("repositories: %q, want %q", got, c.repositories)
				}
				return ""
			})
			if got := theirs(firstEvent(t, c.token)); !slices.Equal(got, c.deliveries) {
				t.Errorf("events: %q, want %q", got, c.deliveries)
			}
			status := asked(t, c.token, "status", 200)
			if whole := strings.Contains(status, `"data"`); whole != (c.token == everyone) || !strings.Contains(status, `"registry"`) {
				t.Errorf("status: %s", status)
			}
		})
	}
	asked(t, team, "deliveries/Kustomization/view-a/web", 200)
	for _, name := range []string{"web", "none"} {
		if said := asked(t, team, "deliveries/Kustomization/view-b/"+name, 403); !strings.Contains(said, "may not get kustomizations") {
			t.Errorf("another's: %s", said)
		}
	}
}

// firstEvent is the list that a stream begins with.
func firstEvent(t *testing.T, token string) string {
	t.Helper()
	answer := ask(t, token, "events")
	defer answer.Body.Close()
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			return data
		}
	}
	t.Fatalf("%s: no event", answer.Status)
	return ""
}
