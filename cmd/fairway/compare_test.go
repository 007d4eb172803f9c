package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/fairway-cd/fairway/internal/controller"
	"github.com/fairway-cd/fairway/internal/core"
)

func liveDeployment(namespace, image string, replicas int64) controller.LiveObject {
	return controller.LiveObject{
		Ref:   core.ObjectRef{Group: "apps", Version: "v1", Kind: "Deployment", Namespace: namespace, Name: "web"},
		State: "Synced", Health: core.Healthy, Images: map[string]string{"web": image}, Replicas: &replicas,
	}
}

func TestCompare(t *testing.T) {
	secret := controller.LiveObject{Ref: core.ObjectRef{Version: "v1", Kind: "Secret", Namespace: "shop-eu", Name: "extra"}, State: "Synced"}
	list := []controller.Live{
		{Cluster: "staging", Revision: "aaaaaaaaaa", Objects: []controller.LiveObject{liveDeployment("shop", "web:1", 1)}},
		{Cluster: "prod-eu", Revision: "aaaaaaaaaa", Objects: []controller.LiveObject{liveDeployment("shop-eu", "web:1", 2), secret}},
	}
	c := compareLive([]string{"web-staging", "web-eu"}, list)
	var rows []string
	for _, r := range c.Rows {
		rows = append(rows, fmt.Sprintf("%s %s %v %v", r.Object, r.What, r.Values, r.Different))
	}
	want := []string{
		" revision [aaaaaaaaaa aaaaaaaaaa] false",
		"Deployment/web state [Synced Synced] false",
		"Deployment/web replicas [1 2] true",
		"Deployment/web image of web [web:1 web:1] false",
		"Secret/extra state [- Synced] true",
	}
	if !c.Different || strings.Join(rows, "\n") != strings.Join(want, "\n") {
		t.Errorf("rows:\n%s", strings.Join(rows, "\n"))
	}

	// Who is away may have anything.
	list[1].Away = "it does not answer"
	c = compareLive([]string{"web-staging", "web-eu"}, list)
	var out bytes.Buffer
	w := tabwriter.NewWriter(&out, 0, 8, 2, ' ', 0)
	printComparison(w, c, true)
	w.Flush()
	if text := out.String(); !c.Different || !strings.Contains(text, "PROD-EU (AWAY)") || !strings.Contains(text, "it does not answer") || strings.Contains(text, "Synced  Synced") {
		t.Errorf("printed:\n%s", text)
	}

	if c = compareLive([]string{"web-staging", "web-eu"}, []controller.Live{{Away: "gone"}, {Away: "gone"}}); !c.Different {
		t.Error("clusters that are away do not differ")
	}

	same := compareLive([]string{"a", "b"}, []controller.Live{list[0], list[0]})
	if same.Different {
		t.Errorf("the same differs: %+v", same)
	}
}
