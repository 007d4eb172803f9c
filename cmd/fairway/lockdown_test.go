package main

import (
	"testing"

	"github.com/fairway-cd/fairway/internal/app"
	"github.com/fairway-cd/fairway/internal/controller"
)

// The lockdown is remembered until it is taken back, whatever else is asked for.
func TestLockdownIsRemembered(t *testing.T) {
	inst, err := app.InstanceAt(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want controller.Lockdown
	}{
		{[]string{"--default-service-account", "tenant", "--no-cross-namespace-refs"}, controller.Lockdown{DefaultServiceAccount: "tenant", NoCrossNamespaceRefs: true}},
		{[]string{"--port", "8430"}, controller.Lockdown{DefaultServiceAccount: "tenant", NoCrossNamespaceRefs: true}},
		{[]string{"--default-service-account="}, controller.Lockdown{NoCrossNamespaceRefs: true}},
		{[]string{"--no-cross-namespace-refs=false"}, controller.Lockdown{}},
	} {
		o := &upOptions{globals: &globals{}}
		cmd := newUpCommandOf(o)
		if err := cmd.ParseFlags(c.args); err != nil {
			t.Fatal(err)
		}
		if err := o.configure(cmd, inst); err != nil {
			t.Fatal(err)
		}
		if err := inst.Save(); err != nil {
			t.Fatal(err)
		}
		if inst, err = app.OpenInstance(inst.Dir()); err != nil {
			t.Fatal(err)
		}
		if inst.Config.Lockdown != c.want {
			t.Errorf("after %v: %+v, want %+v", c.args, inst.Config.Lockdown, c.want)
		}
	}
	o := &upOptions{globals: &globals{}}
	cmd := newUpCommandOf(o)
	if err := cmd.ParseFlags([]string{"--default-service-account", "system:admin"}); err != nil {
		t.Fatal(err)
	}
	if err := o.configure(cmd, inst); err == nil {
		t.Error("a user is taken for a ServiceAccount")
	}
}
