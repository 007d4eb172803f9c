package appset_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/fairway-cd/fairway/internal/appset"
	"github.com/fairway-cd/fairway/internal/render"
)

// TestMain makes the test program a worker where a pool starts it.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == render.WorkerCommand {
		program := render.Program{Name: appset.Program, Run: appset.RunProgram}
		if err := render.ServeWorker(context.Background(), os.Stdin, os.Stdout, program); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestWorker makes of each case in a worker what is made in this process.
func TestWorker(t *testing.T) {
	pool := render.NewPool(render.PoolOptions{Workers: 1})
	defer pool.Close()
	cases, err := filepath.Glob("testdata/*/set.yaml")
	if err != nil || len(cases) == 0 {
		t.Fatal("no cases", err)
	}
	for _, file := range cases {
		set, w := readCase(t, filepath.Dir(file))
		if len(appset.Check(set)) > 0 {
			continue // it is refused before anything runs
		}
		t.Run(filepath.Base(filepath.Dir(file)), func(t *testing.T) {
			here, err1 := appset.Generate(t.Context(), set, inputs{w}, appset.Direct{}, appset.Limits{})
			there, err2 := appset.Generate(t.Context(), set, inputs{w}, appset.Worker(pool.Call), appset.Limits{})
			if fmt.Sprint(err1) != fmt.Sprint(err2) {
				t.Fatalf("here %v, in the worker %v", err1, err2)
			}
			if !reflect.DeepEqual(here, there) {
				t.Errorf("here\n%v\nin the worker\n%v", here, there)
			}
		})
	}
}

// TestHostileTemplates has templates that take a process down: each is an
// error, and the next one is filled in.
func TestHostileTemplates(t *testing.T) {
	pool := render.NewPool(render.PoolOptions{Workers: 1, Timeout: 3 * time.Second, MemoryBytes: 256 << 20})
	defer pool.Close()
	templates := appset.Worker(pool.Call)
	job := func(text string) appset.Job {
		return appset.Job{At: "spec.template", Value: map[string]any{"name": text}, Params: []appset.Params{{"a": "b"}}, Go: true}
	}
	for name, text := range map[string]string{
		"range without end":   `{{ range 1000000000000 }}{{ end }}`,
		"huge string":         `{{ $x := repeat 2000000000 "x" }}`,
		"growing string":      `{{ $s := "xxxxxxxx" }}{{ range until 40 }}{{ $s = print $s $s }}{{ end }}{{ $s }}`,
		"dict in itself":      `{{ $d := dict "a" 1 }}{{ $_ := set $d "a" $d }}{{ $d }}`,
		"template of itself":  `{{ define "t" }}{{ template "t" . }}{{ end }}{{ template "t" . }}`,
		"much output":         `{{ range until 200000 }}{{ repeat 100 "x" }}{{ end }}`,
		"environment":         `{{ env "HOME" }}`,
		"name of a host":      `{{ getHostByName "localhost" }}`,
		"file as a template":  `{{ template "/etc/passwd" }}`,
		"no end":              `{{ if .a }}`,
		"environment by name": `{{ expandenv "$HOME" }}`,
	} {
		t.Run(name, func(t *testing.T) {
			out, err := templates.Fill(t.Context(), job(text))
			var wrong *appset.TemplateError
			var limit *render.Error
			if !errors.As(err, &wrong) && !errors.As(err, &limit) {
				t.Errorf("filled in as %.100v, error %v", out, err)
			}
			out, err = templates.Fill(t.Context(), job(`{{ .a }}{{ env_is_no_function_here }}`))
			if err == nil {
				t.Errorf("an unknown function is %v", out)
			}
			out, err = templates.Fill(t.Context(), job(`{{ .a }}`))
			if err != nil || !reflect.DeepEqual(out, []any{map[string]any{"name": "b"}}) {
				t.Errorf("after it: %v, %v", out, err)
			}
		})
	}
}
