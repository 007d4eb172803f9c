package controller

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
)

// knownSecrets are the Secrets of clusters: NAME SERVER PROJECT each.
func knownSecrets(t *testing.T, list ...string) *clusterSecrets {
	t.Helper()
	c := newClusterSecrets(nil, "argocd")
	c.store = cache.NewStore(cache.MetaNamespaceKeyFunc)
	for _, line := range list {
		f := append(strings.Split(line, " "), "", "")
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "argocd", Name: f[0]}, Data: map[string][]byte{
			"name": []byte(strings.TrimRight(f[0], "0123456789")), "server": []byte(f[1]), "project": []byte(f[2]), "config": []byte(f[3]),
		}}
		if err := c.store.Add(s); err != nil {
			t.Fatal(err)
		}
	}
	close(c.synced)
	return c
}

func TestDestinationIsFound(t *testing.T) {
	known := knownSecrets(t,
		"eu https://eu.example", "shop-eu https://eu.example/ shop", "us https://us.example",
		"twice1 https://one.example", "twice2 https://two.example", "broken https://x.example  {",
		"test https://kubernetes.default.svc", "in-cluster https://elsewhere.example")
	for dest, want := range map[argo.ApplicationDestination]string{
		{Name: "in-cluster"}: "in-cluster https://kubernetes.default.svc", {Server: "https://kubernetes.default.svc/"}: "test https://kubernetes.default.svc",
		{Name: "test"}: "test https://kubernetes.default.svc", {Name: "us"}: "us https://us.example", {Server: "https://us.example/"}: "us https://us.example",
		{Server: "https://eu.example"}:        "shop-eu https://eu.example",
		{Name: "nowhere"}:                     `spec.destination.name: no cluster "nowhere" is known`,
		{Server: "https://no.example"}:        `spec.destination.server: no cluster "https://no.example" is known`,
		{Name: "twice"}:                       "more than one cluster",
		{Name: "broken"}:                      "the Secret broken of cluster \"broken\" cannot be used: config",
		{Server: "https://elsewhere.example"}: "the name in-cluster is that of the cluster",
		{}:                                    "server or name is required",
		{Name: "us", Server: "https://us.example"}: "must not both be set",
	} {
		at, err := known.find(t.Context(), dest, "shop")
		got := at.name + " " + at.server
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) || at.cluster == nil && err == nil && at.server != argo.InClusterServer {
			t.Errorf("%+v: %s, want %s", dest, got, want)
		}
	}
	if at, err := known.find(t.Context(), argo.ApplicationDestination{Server: "https://eu.example"}, "other"); err != nil || at.name != "eu" {
		t.Errorf("for another project it is %+v, %v", at, err)
	}
}

// TestWhatOfADestinationIsDenied: it is said whether it is the cluster or the
// namespace, and by which entry.
func TestWhatOfADestinationIsDenied(t *testing.T) {
	at := argo.ApplicationDestination{Server: "https://eu.example", Name: "eu", Namespace: "a"}
	all := argo.ApplicationDestination{Server: "*", Namespace: "*"}
	for want, list := range map[string][]argo.ApplicationDestination{
		`denies the cluster eu (spec.destinations[1])`:                  {all, {Server: "!https://eu.example", Namespace: "*"}},
		`denies the cluster eu (spec.destinations[0])`:                  {{Name: "!e*", Namespace: "a"}, all},
		`denies the namespace "a" of cluster eu (spec.destinations[1])`: {all, {Server: "*", Namespace: "!a"}},
		`does not permit the cluster eu: no spec.destinations has it`:   {{Name: "us", Namespace: "*"}, {Name: "!us", Namespace: "*"}},
		`does not permit the namespace "a" of cluster eu`:               {{Name: "eu", Namespace: "b"}, {Name: "us", Namespace: "a"}},
		``: {all},
	} {
		if got := destinationProblem(&argo.AppProject{Spec: argo.AppProjectSpec{Destinations: list}}, at); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestProjectPermitsClusters(t *testing.T) {
	for _, c := range []struct {
		name      string
		permitted []argo.ApplicationDestination
		at        argo.ApplicationDestination
		want      bool
	}{
		{"by server", []argo.ApplicationDestination{{Server: "https://eu.example", Namespace: "*"}}, argo.ApplicationDestination{Server: "https://eu.example", Name: "eu", Namespace: "a"}, true},
		{"by name", []argo.ApplicationDestination{{Name: "e*", Namespace: "a"}}, argo.ApplicationDestination{Server: "https://eu.example", Name: "eu", Namespace: "a"}, true},
		{"another cluster", []argo.ApplicationDestination{{Name: "us", Namespace: "*"}}, argo.ApplicationDestination{Server: "https://eu.example", Name: "eu", Namespace: "a"}, false},
		{"another namespace", []argo.ApplicationDestination{{Name: "eu", Namespace: "b"}}, argo.ApplicationDestination{Server: "https://eu.example", Name: "eu", Namespace: "a"}, false},
		{"not at home", []argo.ApplicationDestination{{Server: "https://eu.example", Namespace: "*"}}, home.destination("a"), false},
		{"at home by name", []argo.ApplicationDestination{{Name: "in-cluster", Namespace: "*"}}, home.destination("a"), true},
		{"server denied", []argo.ApplicationDestination{{Server: "*", Namespace: "*"}, {Server: "!https://eu.example", Namespace: "*"}}, argo.ApplicationDestination{Server: "https://eu.example", Name: "eu", Namespace: "a"}, false},
		{"name denied", []argo.ApplicationDestination{{Server: "*", Namespace: "*"}, {Name: "!eu", Namespace: "a"}}, argo.ApplicationDestination{Server: "https://eu.example", Name: "eu", Namespace: "a"}, false},
		{"name denied elsewhere", []argo.ApplicationDestination{{Server: "*", Namespace: "*"}, {Name: "!eu", Namespace: "b"}}, argo.ApplicationDestination{Server: "https://eu.example", Name: "eu", Namespace: "a"}, true},
		{"a denial permits nothing", []argo.ApplicationDestination{{Name: "!us", Namespace: "*"}}, argo.ApplicationDestination{Server: "https://eu.example", Name: "eu", Namespace: "a"}, false},
		{"neither server nor name", []argo.ApplicationDestination{{Namespace: "*"}}, home.destination("a"), false},
	} {
		p := &argo.AppProject{Spec: argo.AppProjectSpec{Destinations: c.permitted}}
		if got := destinationProblem(p, c.at) == ""; got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
