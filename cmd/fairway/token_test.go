package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/fairway-cd/fairway/internal/identity"
	"github.com/fairway-cd/fairway/internal/testkit"
)

func TestToken(t *testing.T) {
	cluster := testkit.StartCluster(t, testkit.ClusterOptions{KwokNodes: -1})
	robots, namespace := identity.NewRobots(cluster.Client), cluster.Namespace(t)
	create := func(o tokenCreateOptions) (out, log string, err error) {
		o.namespace = namespace
		var stdout, stderr bytes.Buffer
		err = runTokenCreate(t.Context(), robots, &o, &stdout, &stderr)
		return stdout.String(), stderr.String(), err
	}

	out, log, err := create(tokenCreateOptions{name: "ci", can: []string{"push:web-app"}, ttl: "30d"})
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(out, "\n"); len(lines) != 2 || strings.Count(lines[0], ".") != 2 {
		t.Errorf("standard output is not the token alone: %q", out)
	}
	if !strings.Contains(log, "push:"+namespace+"/web-app") || !strings.Contains(log, "in 30d") || strings.Contains(log, "warning") {
		t.Errorf("said %q", log)
	}

	// The embedded cluster gives a year at most.
	out, log, err = create(tokenCreateOptions{name: "ci", ttl: "5y", output: "json"})
	var got issued
	if err != nil || json.Unmarshal([]byte(out), &got) != nil {
		t.Fatalf("%q, %v", out, err)
	}
	if left := time.Until(got.Expires); left > 366*24*time.Hour || !strings.Contains(log, "warning: the cluster gave it less time") {
		t.Errorf("good for %v, said %q", left, log)
	}
	if got.User != "system:serviceaccount:"+namespace+":ci" || len(got.Can) != 1 || got.Token == "" {
		t.Errorf("got %+v", got)
	}

	for _, wrong := range []tokenCreateOptions{
		{name: "x", ttl: "1m"}, {name: "x", ttl: "1d", can: []string{"clone:y"}}, {name: "x", ttl: "1d", output: "xml"},
	} {
		var usage *exitError
		if _, _, err := create(wrong); !errors.As(err, &usage) || usage.Code != exitUsage {
			t.Errorf("%+v: %v", wrong, err)
		}
	}

	var list bytes.Buffer
	if err := runTokenList(t.Context(), robots, namespace, "", &list); err != nil {
		t.Fatal(err)
	}
	if rows := strings.Split(strings.TrimSpace(list.String()), "\n"); len(rows) != 2 || !strings.Contains(rows[1], "push:"+namespace+"/web-app") {
		t.Errorf("listed %q", list.String())
	}
}
