package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/spf13/cobra"

	"github.com/fairway-cd/fairway/internal/app"
	"github.com/fairway-cd/fairway/internal/build"
	"github.com/fairway-cd/fairway/internal/build/detect"
)

// buildOptions are those of `fairway build`.
type buildOptions struct {
	*globals
	request  build.Request
	tags     []string
	push     bool
	insecure bool
	args     []string
	labels   []string
	secrets  []string
	outputs  []string
	progress string
	network  string
	output   string
	explain  bool
	detect   detect.Options
}

func newBuildCommand(g *globals) *cobra.Command {
	o := &buildOptions{globals: g}
	cmd := &cobra.Command{
		Use:   "build [DIRECTORY]",
		Short: "Make an image from source",
		Long: `Make an image from a directory with a Dockerfile, with no Docker.

A name without a host ("web-app:v1") is in the instance's registry. How it goes
is shown on stderr; stdout is one line, the image by its digest. The same source
makes the same image, byte for byte: every time in it is that of the commit, or
SOURCE_DATE_EPOCH.

Without a Dockerfile it is detected what the project is: Go, Node, Python or Java.
So far that can be looked at only, with --explain, and not be built.

Exit codes: 0 it was built; 1 it was not; 2 the command line is wrong.`,
		Example: `  fairway build -t web-app:v1 --push .
  fairway build -f build/Dockerfile --target test .
  fairway build --output type=oci,dest=web-app.tar .
  fairway build --explain .
  fairway build --secret id=token,src=token.txt --build-arg VERSION=1.2 -t web-app:v1 --push .`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.request.Context = "."
			if len(args) == 1 {
				o.request.Context = args[0]
			}
			return o.run(cmd)
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.tags, "tag", "t", nil, "name of the image, [HOST/]NAME[:TAG]; may be given again")
	f.BoolVar(&o.push, "push", false, "push the image to the registry of its names")
	f.StringVarP(&o.request.Dockerfile, "file", "f", "", "the Dockerfile (default: Dockerfile in DIRECTORY)")
	f.StringVar(&o.request.Target, "target", "", "the stage to build (default: the last one)")
	f.StringArrayVar(&o.args, "build-arg", nil, "NAME=VALUE of an ARG")
	f.StringArrayVar(&o.labels, "label", nil, "NAME=VALUE of a label of the image")
	f.StringArrayVar(&o.secrets, "secret", nil, "id=NAME,src=FILE or id=NAME,env=NAME, for RUN --mount=type=secret")
	f.StringVar(&o.request.Platform, "platform", "", "OS/ARCH (default: this machine's)")
	f.StringVar(&o.network, "network", "default", "what a RUN may reach: default (HTTP and HTTPS, but not this machine) or none")
	f.StringArrayVar(&o.request.CacheFrom, "cache-from", nil, "an image that holds a cache")
	f.StringArrayVar(&o.request.CacheTo, "cache-to", nil, "an image that the cache is written to")
	f.BoolVar(&o.request.NoCache, "no-cache", false, "run every step anew")
	f.StringArrayVar(&o.outputs, "output", nil, "type=oci|docker|tar,dest=FILE or type=local,dest=DIRECTORY")
	f.StringVar(&o.progress, "progress", "auto", "auto, plain, json or quiet")
	f.BoolVar(&o.explain, "explain", false, "say what was found and what would be done, and build nothing")
	f.StringVar((*string)(&o.detect.As), "as", "", "what the project is, where its files leave that open: go, node, python or java")
	f.StringVar(&o.detect.Target, "go-target", "", "the main package of a Go module, as ./cmd/server")
	f.BoolVar(&o.insecure, "insecure", false, "push with plain HTTP, and to any certificate")
	f.StringVarP(&o.output, "format", "o", "", "how the result is printed: json or yaml")
	return cmd
}

func (o *buildOptions) run(cmd *cobra.Command) error {
	if err := o.read(cmd.Context()); err != nil {
		return err
	}
	if plan, err := build.Explain(o.request, o.detect); o.explain || plan != nil && plan.Project != nil || err != nil {
		return o.explained(cmd, plan, err)
	}
	inst, err := o.instance()
	if err != nil {
		return err
	}
	if err := o.readOutputs(inst); err != nil {
		return err
	}
	e, err := inst.BuildEngine()
	if err != nil {
		return err
	}
	b := &build.Builder{Engine: e, Keychain: operatorKeychain(inst)}
	res, err := b.Build(cmd.Context(), o.request, build.Progress{Out: cmd.ErrOrStderr(), Mode: o.progress})
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if slices.ContainsFunc(o.request.Outputs, func(o build.Output) bool { return o.Dest == "-" }) {
		out = cmd.ErrOrStderr() // the image itself went there
	}
	return printData(out, o.output, res, func(t *tabwriter.Writer) {
		for _, n := range res.Names {
			fmt.Fprintf(t, "%s@%s\n", withoutTag(n), res.Digest)
		}
		if len(res.Names) == 0 && res.Digest != "" {
			fmt.Fprintln(t, res.Digest)
		}
	})
}

// explained prints the plan; where that is not what was asked for, it is one that
// cannot be built.
func (o *buildOptions) explained(cmd *cobra.Command, plan *build.Plan, err error) error {
	switch {
	case err != nil:
		return err
	case !o.explain:
		return withHint(fmt.Errorf("%s is a project of the kind %s, which is not built without a Dockerfile yet", o.request.Context, plan.Project.Kind),
			"write a Dockerfile; 'fairway build --explain' shows what was found")
	}
	return printData(cmd.OutOrStdout(), o.output, plan, func(t *tabwriter.Writer) {
		if p := plan.Project; p != nil {
			fmt.Fprintf(t, "DETECT\t%s: %s\n", p.Kind, strings.Join(p.Signs, ", "))
			for _, phase := range [][2]string{
				{"RESTORE", strings.Join(p.Restore, " ")}, {"BUILD", strings.Join(p.Build, " ")}, {"START", cmp.Or(p.Shell, strings.Join(p.Start, " "))},
			} {
				if phase[1] != "" {
					fmt.Fprintf(t, "%s\t%s\n", phase[0], phase[1])
				}
			}
			return
		}
		fmt.Fprintf(t, "DOCKERFILE\t%s\n", plan.Dockerfile)
		for i, s := range plan.Stages {
			fmt.Fprintf(t, "STAGE %d\tFROM %s\t%s\t%d steps\n", i+1, s.From, s.Name, s.Steps)
		}
	})
}

// read takes the command line into the request.
func (o *buildOptions) read(ctx context.Context) (err error) {
	r := &o.request
	if r.Context, err = filepath.Abs(r.Context); err != nil {
		return fmt.Errorf("find the context: %w", err)
	}
	if r.Args, err = pairs("--build-arg", o.args, nil); err != nil {
		return err
	}
	if r.Labels, err = pairs("--label", o.labels, nil); err != nil {
		return err
	}
	switch o.network {
	case "default":
	case "none":
		r.Offline = true
	default:
		return usage("--network is default or none: a build does not get this machine's network")
	}
	for _, s := range o.secrets {
		secret, err := parseSecret(s)
		if err != nil {
			return err
		}
		r.Secrets = append(r.Secrets, secret)
	}
	r.Epoch, err = epoch(ctx, r.Context)
	return err
}

// readOutputs qualifies the names and says what is to come of the build.
func (o *buildOptions) readOutputs(inst *app.Instance) error {
	var names []string
	var opts []name.Option
	if inst.Config.Port != 0 {
		opts = append(opts, name.WithDefaultRegistry(inst.Registry()))
	}
	for _, t := range o.tags {
		ref, err := name.NewTag(t, opts...)
		if err != nil {
			return usage("-t %s: an image is [HOST/]NAME[:TAG], in lower-case letters", t)
		}
		names = append(names, ref.Name())
	}
	switch {
	case o.push && len(names) == 0:
		return usage("--push needs a name: -t NAME:TAG")
	case o.push:
		o.request.Outputs = append(o.request.Outputs, build.Output{Kind: build.Image, Names: names, Insecure: o.insecure})
	}
	for _, s := range o.outputs {
		out, err := build.ParseOutput(s)
		if err != nil {
			return err
		}
		if out.Names == nil {
			out.Names = names
		}
		o.request.Outputs = append(o.request.Outputs, out)
	}
	return nil
}

func parseSecret(s string) (build.Secret, error) {
	var out build.Secret
	for part := range strings.SplitSeq(s, ",") {
		key, value, _ := strings.Cut(part, "=")
		switch key {
		case "id":
			out.ID = value
		case "src", "source":
			out.File = value
		case "env":
			out.Env = value
		case "type":
		default:
			return out, usage("--secret %s: there is no %q", s, key)
		}
	}
	if out.ID == "" || out.File == "" && out.Env == "" {
		return out, usage("--secret %s: it is id=NAME,src=FILE or id=NAME,env=NAME", s)
	}
	return out, nil
}

// epoch is SOURCE_DATE_EPOCH, else the time of the commit that is checked out,
// else 0.
func epoch(ctx context.Context, dir string) (time.Time, error) {
	if s := os.Getenv("SOURCE_DATE_EPOCH"); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return time.Time{}, usage("SOURCE_DATE_EPOCH=%s is no number of seconds", s)
		}
		return time.Unix(n, 0), nil
	}
	out, err := exec.CommandContext(ctx, "git", "-C", dir, "log", "-1", "--format=%ct").Output()
	if n, parseErr := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64); err == nil && parseErr == nil {
		return time.Unix(n, 0), nil
	}
	return time.Unix(0, 0), nil
}

func withoutTag(s string) string {
	if tag, err := name.NewTag(s); err == nil {
		return tag.Repository.Name()
	}
	return s
}
