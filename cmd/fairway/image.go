package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/fairway-cd/fairway/internal/registry/image"
)

// imageOptions are what every image command has.
type imageOptions struct {
	*globals
	output   string
	insecure bool
	ca       string
}

func newImageCommand(g *globals) *cobra.Command {
	o := &imageOptions{globals: g}
	cmd := &cobra.Command{
		Use:   "image",
		Short: "Make, move and look at images",
		Long: `Make, move and look at images, with no Docker.

A name without a host ("web-app:v1") is in the instance's registry. Credentials
are those of 'fairway login', 'docker login' and their helpers.`,
	}
	cmd.PersistentFlags().BoolVar(&o.insecure, "insecure", false, "allow plain HTTP, and any certificate")
	cmd.PersistentFlags().StringVar(&o.ca, "ca", "", "certificate authority of the registry, PEM")
	cmd.AddCommand(newImageCreateCommand(o), newImagePushCommand(o), newImagePullCommand(o), newImageListCommand(o),
		newImageInspectCommand(o), newImageHistoryCommand(o), newImageCopyCommand(o), newImageDeleteCommand(o),
		newImageCollectCommand(o))
	return cmd
}

// client is for a command; what it transfers shows on a terminal.
func (o *imageOptions) client(cmd *cobra.Command) (*image.Client, error) {
	opts := image.Options{Insecure: o.insecure, CAFile: o.ca, Progress: progressOn(cmd.ErrOrStderr())}
	if inst, err := o.instance(); err == nil && inst.Config.Port != 0 {
		opts.Registry = inst.Registry()
		opts.Keychain = operatorKeychain(inst)
	}
	return image.New(opts)
}

// progressOn shows a transfer on w where that is a terminal.
func progressOn(w io.Writer) func(complete, total int64) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return func(complete, total int64) {
		fmt.Fprintf(w, "\r\x1b[K%s of %s", humanize.Bytes(uint64(complete)), humanize.Bytes(uint64(total)))
		if complete == total {
			fmt.Fprint(w, "\r\x1b[K")
		}
	}
}

func (o *imageOptions) printPushed(cmd *cobra.Command, p image.Pushed) error {
	return printData(cmd.OutOrStdout(), o.output, p, func(t *tabwriter.Writer) { fmt.Fprintln(t, p.Reference) })
}

func newImagePushCommand(o *imageOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "push PATH IMAGE",
		Short:   "Push an OCI layout (directory or tar) or a 'docker save' tar",
		Example: "  fairway image push ./layout web-app:v1\n  fairway image push web-app.tar team/web-app:v1",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.client(cmd)
			if err != nil {
				return err
			}
			p, err := c.Push(cmd.Context(), args[0], args[1])
			if err != nil {
				return err
			}
			return o.printPushed(cmd, p)
		},
	}
	addOutputFlag(cmd, &o.output)
	return cmd
}

func newImagePullCommand(o *imageOptions) *cobra.Command {
	format := string(image.FormatOCI)
	cmd := &cobra.Command{
		Use:     "pull IMAGE PATH",
		Short:   "Get an image into an OCI layout directory, or a tar for 'docker load'",
		Example: "  fairway image pull web-app:v1 ./layout\n  fairway image pull --format docker web-app:v1 web-app.tar",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.client(cmd)
			if err != nil {
				return err
			}
			p, err := c.Pull(cmd.Context(), args[0], args[1], image.Format(format))
			if err != nil {
				return err
			}
			return o.printPushed(cmd, p)
		},
	}
	cmd.Flags().StringVar(&format, "format", format, "oci (a directory) or docker (a tar)")
	addOutputFlag(cmd, &o.output)
	return cmd
}

func newImageListCommand(o *imageOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list [REPOSITORY]",
		Aliases: []string{"ls"},
		Short:   "List the tags of a repository, or the instance's repositories",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.client(cmd)
			if err != nil {
				return err
			}
			repository := ""
			if len(args) > 0 {
				repository = args[0]
			}
			list, err := c.List(cmd.Context(), repository)
			if err != nil {
				return err
			}
			return printData(cmd.OutOrStdout(), o.output, list, func(t *tabwriter.Writer) {
				if repository == "" {
					fmt.Fprintln(t, "REPOSITORY")
				} else {
					fmt.Fprintln(t, "REPOSITORY\tTAG\tDIGEST")
				}
				for _, l := range list {
					fmt.Fprintln(t, strings.TrimRight(strings.Join([]string{l.Name, l.Tag, l.Digest}, "\t"), "\t"))
				}
			})
		},
	}
	addOutputFlag(cmd, &o.output)
	return cmd
}

func newImageInspectCommand(o *imageOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inspect IMAGE",
		Short: "Say what an image is, what it runs, and what evidence there is about it",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.client(cmd)
			if err != nil {
				return err
			}
			d, err := c.Inspect(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return printData(cmd.OutOrStdout(), o.output, d, func(t *tabwriter.Writer) { printDescription(t, d) })
		},
	}
	addOutputFlag(cmd, &o.output)
	return cmd
}

func printDescription(t *tabwriter.Writer, d image.Description) {
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(t, "%s\t%s\n", name, value)
		}
	}
	row("image", d.Image)
	row("digest", d.Digest)
	row("type", d.MediaType)
	row("size", humanize.Bytes(uint64(d.Size)))
	row("platform", d.Platform)
	if d.Created != nil {
		row("created", d.Created.Format("2006-01-02 15:04:05Z07:00"))
	}
	row("entrypoint", quoted(d.Entrypoint))
	row("command", quoted(d.Cmd))
	row("user", d.User)
	row("directory", d.WorkingDir)
	row("ports", strings.Join(d.Ports, ", "))
	for _, env := range d.Env {
		row("env", env)
	}
	for _, l := range d.Layers {
		row("layer", l.Digest+" "+humanize.Bytes(uint64(l.Size)))
	}
	for _, i := range d.Images {
		row("image", i.Digest+" "+i.Tag)
	}
	for _, e := range d.Evidence {
		row("evidence", e.Digest+" "+e.Type)
	}
}

// quoted is a command line in which the arguments can be told apart.
func quoted(args []string) string {
	out := make([]string, 0, len(args))
	for _, a := range args {
		out = append(out, fmt.Sprintf("%q", a))
	}
	return strings.Join(out, " ")
}

func newImageHistoryCommand(o *imageOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "history IMAGE",
		Short: "Say how an image was made, the newest step first",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.client(cmd)
			if err != nil {
				return err
			}
			steps, err := c.History(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return printData(cmd.OutOrStdout(), o.output, steps, func(t *tabwriter.Writer) {
				fmt.Fprintln(t, "CREATED\tSIZE\tLAYER\tCREATED BY")
				for _, s := range steps {
					layer := s.Layer
					if len(layer) > 19 {
						layer = layer[:19]
					}
					fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", since(s.Created), humanize.Bytes(uint64(s.Size)), layer, s.CreatedBy)
				}
			})
		},
	}
	addOutputFlag(cmd, &o.output)
	return cmd
}

func newImageCopyCommand(o *imageOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "copy IMAGE IMAGE",
		Aliases: []string{"cp"},
		Short:   "Copy an image, with all its platforms, between registries",
		Example: "  fairway image copy docker.io/library/debian:12 library/debian:12",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.client(cmd)
			if err != nil {
				return err
			}
			p, err := c.Copy(cmd.Context(), args[0], args[1])
			if err != nil {
				return err
			}
			return o.printPushed(cmd, p)
		},
	}
	addOutputFlag(cmd, &o.output)
	return cmd
}

func newImageDeleteCommand(o *imageOptions) *cobra.Command {
	return &cobra.Command{
		Use:     "delete IMAGE...",
		Aliases: []string{"rm"},
		Short:   "Delete a tag, or by its digest an image with all its tags",
		Example: "  fairway image delete web-app:v1\n  fairway image delete web-app@sha256:…",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.client(cmd)
			if err != nil {
				return err
			}
			for _, what := range args {
				if err := c.Delete(cmd.Context(), what); err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), "deleted", what)
			}
			return nil
		},
	}
}

func newImageCreateCommand(o *imageOptions) *cobra.Command {
	var recipe image.Recipe
	var tag, dir, entrypoint, command string
	var add, labels []string
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make an image out of files, without Docker or a Dockerfile",
		Long: `Make an image out of files and push it. The same files make the same image,
to the byte: whoever and whenever. Files belong to root and are readable by
all; what is executable stays so.`,
		Example: `  go build -o web ./cmd/web
  fairway image create -t web-app:v1 --add web:/usr/bin/ --entrypoint /usr/bin/web --port 8080
  fairway image create -t site:v2 --from library/nginx:1 --add ./public:/usr/share/nginx/html`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (tag == "") == (dir == "") {
				return &exitError{exitUsage, errors.New("say where the image goes: either --tag or --layout")}
			}
			var err error
			if recipe.Entrypoint, err = parseCommand(entrypoint); err != nil {
				return &exitError{exitUsage, fmt.Errorf("--entrypoint: %w", err)}
			}
			if recipe.Cmd, err = parseCommand(command); err != nil {
				return &exitError{exitUsage, fmt.Errorf("--cmd: %w", err)}
			}
			for _, s := range add {
				a, err := image.ParseAddition(s)
				if err != nil {
					return err
				}
				recipe.Add = append(recipe.Add, a)
			}
			if recipe.Labels, err = parsePairs(labels); err != nil {
				return err
			}
			c, err := o.client(cmd)
			if err != nil {
				return err
			}
			p, err := c.Create(cmd.Context(), recipe, tag, dir)
			if err != nil {
				return err
			}
			return o.printPushed(cmd, p)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&tag, "tag", "t", "", "push it as this image")
	f.StringVar(&dir, "layout", "", "write it into this OCI layout directory")
	f.StringVar(&recipe.From, "from", "scratch", "the image below")
	f.StringArrayVar(&add, "add", nil, "SOURCE:TARGET, a file or directory; becomes a layer")
	f.StringVar(&entrypoint, "entrypoint", "", `the program, or a JSON array of it and its first arguments`)
	f.StringVar(&command, "cmd", "", `the default argument, or a JSON array of them`)
	f.StringArrayVar(&recipe.Env, "env", nil, "NAME=VALUE")
	f.StringArrayVar(&labels, "label", nil, "NAME=VALUE")
	f.StringArrayVar(&recipe.Ports, "port", nil, "a port that it listens on, such as 8080 or 53/udp")
	f.StringVar(&recipe.User, "user", "", "USER or UID[:GID] that it runs as")
	f.StringVar(&recipe.WorkingDir, "workdir", "", "the directory that it runs in")
	f.StringVar(&recipe.Platform, "platform", "", "OS/ARCH[/VARIANT] (default linux and this machine's)")
	addOutputFlag(cmd, &o.output)
	return cmd
}

// parseCommand reads a program or a JSON array, as a Dockerfile has it; nothing
// is split or expanded.
func parseCommand(s string) ([]string, error) {
	switch {
	case s == "":
		return nil, nil
	case !strings.HasPrefix(s, "["):
		return []string{s}, nil
	}
	var out []string
	if err := json.Unmarshal([]byte(s), &out); err != nil {
		return nil, fmt.Errorf("want a JSON array of strings: %w", err)
	}
	return out, nil
}

func parsePairs(pairs []string) (map[string]string, error) {
	out := map[string]string{}
	for _, s := range pairs {
		key, value, ok := strings.Cut(s, "=")
		if !ok || key == "" {
			return nil, &exitError{exitUsage, fmt.Errorf("%q: want NAME=VALUE", s)}
		}
		out[key] = value
	}
	return out, nil
}
