package e2e

import (
	"context"
	"os/exec"
	"strings"
	"testing"
)

// After "fairway login" skopeo pushes, lists and pulls, with no credential on
// its command line, and without a login it does not.
func TestSkopeo(t *testing.T) {
	skopeo, err := exec.LookPath("skopeo")
	if err != nil {
		t.Skip("skopeo is not installed: a client of others is optional")
	}
	r := newReader(t, shared)
	layout := "printf x > file\nfairway image create --layout layout --add file:/file\n"
	r.run(t, "layout", block{text: layout})
	address := shared.status(t).Registry + "/skopeo"
	client := func(args ...string) (string, error) {
		return r.exec(t.Context(), r.dir, skopeo, append([]string{"--insecure-policy"}, args...)...)
	}
	push := []string{"copy", "--dest-tls-verify=false", "oci:layout", "docker://" + address + ":v1"}
	shared.must(t, "logout")
	if out, err := client(push...); err == nil {
		t.Fatalf("skopeo pushed without a login: %s", out)
	}
	shared.must(t, "login")
	// The home is every test's; others are not logged in.
	t.Cleanup(func() {
		if _, err := shared.run(context.Background(), "logout"); err != nil {
			t.Error(err)
		}
	})
	if _, err := client(push...); err != nil {
		t.Fatal(err)
	}
	tags, err := client("list-tags", "--tls-verify=false", "docker://"+address)
	if err != nil || !strings.Contains(tags, `"v1"`) {
		t.Errorf("tags: %s, %v", tags, err)
	}
	if _, err := client("copy", "--src-tls-verify=false", "docker://"+address+":v1", "oci:pulled"); err != nil {
		t.Error(err)
	}
}
