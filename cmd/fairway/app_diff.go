package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pmezard/go-difflib/difflib"
	"github.com/spf13/cobra"
	"golang.org/x/term"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/api/flux"
	"github.com/fairway-cd/fairway/internal/controller"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/core/memtree"
	"github.com/fairway-cd/fairway/internal/render"
)

func newAppDiffCommand(o *appOptions) *cobra.Command {
	var revision string
	var exitCode bool
	var output string
	cmd := &cobra.Command{
		Use:   "diff NAME",
		Short: "Show how the cluster differs from the source",
		Long: `Show how the cluster differs from the source, as a unified diff from what is
there to what is wanted. The exit code is 1 where there is a difference. The
server compares; it can be on any machine (--server).

Of a HelmRelease it is what its next revision would change, and what somebody
has changed; hooks and CRDs are not compared.`,
		Example: "  fairway app diff web-app\n  fairway app diff web-app --revision my-branch",
		Args:    oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runAppDiff(cmd.Context(), o, args[0], revision, exitCode, output, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&revision, "revision", "", "compare with this revision of the source")
	cmd.Flags().BoolVar(&exitCode, "exit-code", true, "exit with 1 where there is a difference")
	addTextOutputFlag(cmd, &output)
	return cmd
}

func runAppDiff(ctx context.Context, o *appOptions, name, revision string, exitCode bool, output string, out io.Writer) error {
	var diff controller.Diff
	if err := o.ask(ctx, name, asking("diff", revision, &diff)); err != nil {
		return fmt.Errorf("comparing %s: %w", name, err)
	}
	if err := printTextOr(out, output, diff, func() error { return printDiffs(out, diff.Items) }); err != nil {
		return err
	}
	if len(diff.Items) > 0 && exitCode {
		return errDifferent()
	}
	return nil
}

func printDiffs(out io.Writer, items []controller.DiffItem) error {
	for _, item := range items {
		if err := printDiff(out, item, isTerminal(out)); err != nil {
			return err
		}
	}
	return nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == ""
}

// The colours of a diff, as git has them.
const (
	colourBold  = "\x1b[1m"
	colourRed   = "\x1b[31m"
	colourGreen = "\x1b[32m"
	colourCyan  = "\x1b[36m"
	colourReset = "\x1b[0m"
)

// printDiff prints one object's difference.
func printDiff(w io.Writer, item controller.DiffItem, colour bool) error {
	live, err := manifest(item.Live)
	if err != nil {
		return err
	}
	wanted, err := manifest(item.Wanted)
	if err != nil {
		return err
	}
	text, err := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{
		A: difflib.SplitLines(live), B: difflib.SplitLines(wanted),
		FromFile: "live", ToFile: "wanted", Context: 3,
	})
	if err != nil {
		return err
	}
	head := "===== " + item.Ref.String() + " (" + string(item.State) + ")"
	if item.Message != "" {
		head += ": " + item.Message
	}
	for _, line := range append([]string{head}, strings.Split(strings.TrimRight(text, "\n"), "\n")...) {
		if line == "" {
			continue
		}
		if colour {
			line = coloured(line)
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

func coloured(line string) string {
	colour := ""
	switch {
	case strings.HasPrefix(line, "====="), strings.HasPrefix(line, "---"), strings.HasPrefix(line, "+++"):
		colour = colourBold
	case strings.HasPrefix(line, "@@"):
		colour = colourCyan
	case strings.HasPrefix(line, "-"):
		colour = colourRed
	case strings.HasPrefix(line, "+"):
		colour = colourGreen
	default:
		return line
	}
	return colour + line + colourReset
}

func manifest(u *unstructured.Unstructured) (string, error) {
	if u == nil {
		return "", nil
	}
	data, err := yaml.Marshal(u.Object)
	return string(data), err
}

func newAppRenderCommand(o *appOptions) *cobra.Command {
	var revision, local, output string
	cmd := &cobra.Command{
		Use:     "render NAME",
		Aliases: []string{"manifests"},
		Short:   "Print the manifests that an application delivers",
		Long: `Print the manifests that an application delivers, as the server renders them, or
as they would be with the files of a local work tree. The values of Secrets are
shown only for a local one.`,
		Example: "  fairway app render web-app\n  fairway app render web-app --local .",
		Args:    oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runAppRender(cmd.Context(), o, args[0], revision, local, output, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&revision, "revision", "", "revision of the source")
	cmd.Flags().StringVar(&local, "local", "", "work tree of the repository to render in its place")
	addTextOutputFlag(cmd, &output)
	return cmd
}

func runAppRender(ctx context.Context, o *appOptions, name, revision, local, output string, out io.Writer) error {
	if revision != "" && local != "" {
		return usage("--revision and --local contradict each other")
	}
	var answer controller.Manifests
	var err error
	if local != "" {
		answer.Items, err = o.renderLocal(ctx, name, local)
	} else {
		err = o.ask(ctx, name, asking("manifests", revision, &answer))
	}
	if err != nil {
		return fmt.Errorf("rendering %s: %w", name, err)
	}
	return printTextOr(out, output, answer, func() error { return printManifests(out, answer.Items) })
}

func printManifests(out io.Writer, objects []*unstructured.Unstructured) error {
	for _, object := range objects {
		text, err := manifest(object)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "---\n%s", text); err != nil {
			return err
		}
	}
	return nil
}

// renderLocal renders the user's own files, in this process.
func (o *appOptions) renderLocal(ctx context.Context, name, dir string) ([]*unstructured.Unstructured, error) {
	c, obj, err := o.open(ctx, name)
	if err != nil {
		return nil, err
	}
	tree, err := localTree(dir)
	if err != nil {
		return nil, err
	}
	if err := ofHelm(obj, "rendered from a work tree"); err != nil {
		return nil, err
	}
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(argo.GroupVersion.WithKind(argo.ApplicationKind))
	if kindOf(obj) != argo.ApplicationKind {
		u.SetGroupVersionKind(flux.Kustomization)
	}
	if err := c.Get(ctx, client.ObjectKeyFromObject(obj), u); err != nil {
		return nil, err
	}
	config, _, err := o.config()
	if err != nil {
		return nil, err
	}
	disco, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	version, err := disco.ServerVersion()
	if err != nil {
		return nil, fmt.Errorf("asking the cluster for its version: %w", err)
	}
	groups, err := disco.ServerGroups()
	if err != nil {
		return nil, fmt.Errorf("asking the cluster for its kinds: %w", err)
	}
	var apis []string
	for _, g := range groups.Groups {
		for _, v := range g.Versions {
			apis = append(apis, v.GroupVersion)
		}
	}
	return controller.RenderLocal(ctx, render.NewEngine(render.Limits{}), u, tree, version.GitVersion, apis)
}

// localTree reads a work tree, without what is Git's own. Links are left out:
// they could lead anywhere.
func localTree(dir string) (core.Tree, error) {
	const limit = 256 << 20
	files := map[string][]byte{}
	size := int64(0)
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the work tree: %w", err)
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == ".git":
			return fs.SkipDir
		case !d.Type().IsRegular():
			return nil
		}
		data, err := fs.ReadFile(root.FS(), path)
		if err != nil {
			return err
		}
		if size += int64(len(data)); size > limit {
			return &core.TooLargeError{What: "the work tree", Size: size, Limit: limit}
		}
		files[filepath.ToSlash(path)] = data
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the work tree: %w", err)
	}
	if len(files) == 0 {
		return nil, errors.New("the work tree " + dir + " has no files")
	}
	return memtree.New(files), nil
}
