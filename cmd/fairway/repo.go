package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/client-go/util/jsonpath"
	"sigs.k8s.io/yaml"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/web"
)

func newRepoCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "repo",
		Short: "Git repositories of the instance",
		Long: `Git repositories of the instance. A name is NAME, in namespace default, or
NAMESPACE/NAME. A push to a repository that does not exist creates it too.`,
	}
	g.addServerFlag(cmd)
	cmd.AddCommand(newRepoListCommand(g), newRepoShowCommand(g), newRepoCreateCommand(g),
		newRepoDeleteCommand(g), newRepoMirrorCommand(g))
	completeNames(cmd, g.repoNames)
	return cmd
}

func newRepoListCommand(g *globals) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the repositories",
		Example: "  fairway repo list\n  fairway repo list -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runRepoList(cmd.Context(), g, cmd.OutOrStdout(), output)
		},
	}
	addOutputFlag(cmd, &output)
	return cmd
}

func runRepoList(ctx context.Context, g *globals, w io.Writer, output string) error {
	api, err := g.api(ctx)
	if err != nil {
		return err
	}
	var repos []web.Repository
	if err := api.do(ctx, http.MethodGet, "/api/v1/repositories", nil, &repos); err != nil {
		return fmt.Errorf("listing repositories: %w", err)
	}
	return printData(w, output, repos, func(t *tabwriter.Writer) {
		fmt.Fprintln(t, "NAME\tBRANCH\tSIZE\tLAST PUSH\tBY\tSERVES")
		for _, r := range repos {
			name, _ := core.ParseName(r.Name)
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", name.Short(), r.DefaultBranch, humanize.IBytes(uint64(r.Bytes)), since(r.LastPush), r.LastPushBy, strings.Join(r.Mirrors, " "))
		}
	})
}

func newRepoShowCommand(g *globals) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "show NAME",
		Short:   "Show a repository: its address, branches and tags",
		Example: "  fairway repo show demo",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			name, err := core.ParseName(args[0])
			if err != nil {
				return &exitError{exitUsage, err}
			}
			api, err := g.api(ctx)
			if err != nil {
				return err
			}
			var r web.Repository
			if err := api.do(ctx, http.MethodGet, "/api/v1/repositories/"+name.String(), nil, &r); err != nil {
				return fmt.Errorf("reading repository %s: %w", name.Short(), err)
			}
			return printData(cmd.OutOrStdout(), output, r, func(t *tabwriter.Writer) { printRepo(t, name, r) })
		},
	}
	addOutputFlag(cmd, &output)
	return cmd
}

func printRepo(t *tabwriter.Writer, name core.Name, r web.Repository) {
	fmt.Fprintf(t, "name\t%s\n", name.Short())
	fmt.Fprintf(t, "URL\t%s\n", r.URL)
	fmt.Fprintf(t, "default branch\t%s\n", r.DefaultBranch)
	fmt.Fprintf(t, "size\t%s\n", humanize.IBytes(uint64(r.Bytes)))
	fmt.Fprintf(t, "last push\t%s %s\n", since(r.LastPush), r.LastPushBy)
	for _, m := range r.Mirrors {
		fmt.Fprintf(t, "serves\t%s\n", m)
	}
	for _, ref := range r.Refs {
		fmt.Fprintf(t, "%s\t%.12s\n", ref.Name, ref.Commit)
	}
}

func newRepoCreateCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:     "create NAME",
		Short:   "Create an empty repository",
		Example: "  fairway repo create web-app\n  fairway repo create team-a/web-app",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runRepoChange(cmd, g, http.MethodPut, args[0], "created")
		},
	}
}

func newRepoDeleteCommand(g *globals) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:     "delete NAME --yes",
		Short:   "Delete a repository and all that is in it",
		Example: "  fairway repo delete web-app --yes",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !yes {
				return withHint(&exitError{exitUsage, fmt.Errorf("deleting %s would destroy its history", args[0])}, "say --yes if you mean it")
			}
			return runRepoChange(cmd, g, http.MethodDelete, args[0], "deleted")
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "really delete it")
	return cmd
}

func runRepoChange(cmd *cobra.Command, g *globals, method, arg, done string) error {
	name, err := core.ParseName(arg)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	api, err := g.api(cmd.Context())
	if err != nil {
		return err
	}
	if err := api.do(cmd.Context(), method, "/api/v1/repositories/"+name.String(), nil, nil); err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "repository %s %s\n", name.Short(), done)
	return nil
}

func newRepoMirrorCommand(g *globals) *cobra.Command {
	var remove, list bool
	cmd := &cobra.Command{
		Use:   "mirror URL NAME",
		Short: "Serve a URL that manifests name from a repository of the instance",
		Long: `Serve a URL that manifests name from a repository of the instance, as git's
insteadOf does: a manifest that says https://github.com/myorg/gitops-repo need
not be edited. A URL that ends in / stands for all below it.`,
		Example: `  fairway repo mirror https://github.com/myorg/gitops-repo gitops-repo
  fairway repo mirror --list
  fairway repo mirror --remove https://github.com/myorg/gitops-repo`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := g.api(cmd.Context())
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			switch {
			case list && len(args) == 0:
				return listMirrors(ctx, api, cmd.OutOrStdout())
			case remove && len(args) == 1:
				return api.do(ctx, http.MethodDelete, "/api/v1/mirrors?url="+url.QueryEscape(args[0]), nil, nil)
			case !list && !remove && len(args) == 2:
				return api.do(ctx, http.MethodPut, "/api/v1/mirrors", web.Mirror{URL: args[0], Repository: args[1]}, nil)
			default:
				return &exitError{exitUsage, fmt.Errorf("want URL NAME, or --list, or --remove URL")}
			}
		},
	}
	cmd.Flags().BoolVar(&list, "list", false, "list the mirrored URLs")
	cmd.Flags().BoolVar(&remove, "remove", false, "serve the URL no longer")
	cmd.MarkFlagsMutuallyExclusive("list", "remove")
	return cmd
}

func listMirrors(ctx context.Context, api *apiClient, w io.Writer) error {
	var all []web.Mirror
	if err := api.do(ctx, http.MethodGet, "/api/v1/mirrors", nil, &all); err != nil {
		return fmt.Errorf("listing mirrors: %w", err)
	}
	return printData(w, "", all, func(t *tabwriter.Writer) {
		fmt.Fprintln(t, "URL\tREPOSITORY")
		for _, m := range all {
			fmt.Fprintf(t, "%s\t%s\n", m.URL, m.Repository)
		}
	})
}

// addOutputFlag adds -o to a command that prints data.
func addOutputFlag(cmd *cobra.Command, output *string) {
	cmd.Flags().StringVarP(output, "output", "o", "table", "json, yaml, jsonpath=TEMPLATE or table")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json", "yaml", "jsonpath="}, cobra.ShellCompDirectiveNoFileComp))
}

// addTextOutputFlag is addOutputFlag for what is text by itself, not a table.
func addTextOutputFlag(cmd *cobra.Command, output *string) {
	cmd.Flags().StringVarP(output, "output", "o", "", "json, yaml or jsonpath=TEMPLATE (default: as text)")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"json", "yaml", "jsonpath="}, cobra.ShellCompDirectiveNoFileComp))
}

// printTextOr calls text where no form was asked for, and else writes v in it.
func printTextOr(w io.Writer, output string, v any, text func() error) error {
	switch {
	case output == "":
		return text()
	case output == "table":
		return usage("-o table: want json, yaml or jsonpath=TEMPLATE")
	}
	return printData(w, output, v, nil)
}

// printData writes v as JSON or YAML, or what a path selects of it as kubectl
// does, or calls table.
func printData(w io.Writer, output string, v any, table func(*tabwriter.Writer)) error {
	if template, ok := strings.CutPrefix(output, "jsonpath="); ok {
		return printPath(w, template, v)
	}
	switch output {
	case "json":
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	case "yaml":
		data, err := yaml.Marshal(v)
		if err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	case "", "table":
		t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
		table(t)
		return t.Flush()
	default:
		return &exitError{exitUsage, fmt.Errorf("--output %q: want json, yaml, jsonpath=TEMPLATE or table", output)}
	}
}

// printPath writes what the template selects of v's JSON, and nothing else.
func printPath(w io.Writer, template string, v any) error {
	path := jsonpath.New("output")
	if err := path.Parse(template); err != nil {
		return &exitError{exitUsage, fmt.Errorf("--output jsonpath: %w", err)}
	}
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var generic any
	if err := json.Unmarshal(data, &generic); err != nil {
		return err
	}
	if err := path.Execute(w, generic); err != nil {
		return fmt.Errorf("--output jsonpath: %w", err)
	}
	return nil
}

// since is how long ago t was, as kubectl says it.
func since(t *time.Time) string {
	if t == nil || t.IsZero() {
		return "-"
	}
	return duration.HumanDuration(time.Since(*t)) + " ago"
}
