package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/fairway-cd/fairway/internal/app"
	"github.com/fairway-cd/fairway/internal/backup"
)

type backupOptions struct {
	*globals
	recipients     []string
	recipientsFile string
	withoutSecrets bool
	list           bool
	output         string
}

func newBackupCommand(g *globals) *cobra.Command {
	o := &backupOptions{globals: g}
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write all of the instance into one file",
		Long: `Write Git, the images and the cluster's objects into one file, or to the
standard output where FILE is -. Secrets are in it encrypted to age keys, which
'age-keygen' makes: name their public halves with --recipient, and keep the
other halves somewhere else. The instance has to be up; pushes go on meanwhile.
A file that exists is replaced once the new one is whole.

All but Secrets can be read by who has the file: repositories, images, and what
is in ConfigMaps. --list reads one to its end, checks it, and says what is in it.`,
		Example: `  fairway backup monday.fairway --recipient age1…
  fairway backup --list monday.fairway
  fairway backup - --recipients-file keys.txt | ssh elsewhere 'cat > monday.fairway'`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.list {
				return runBackupList(cmd, o, args[0])
			}
			return runBackup(cmd, o, args[0])
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.recipients, "recipient", nil, "age key to encrypt Secrets to; may be given more than once")
	f.StringVar(&o.recipientsFile, "recipients-file", "", "file of age keys, one a line")
	f.BoolVar(&o.withoutSecrets, "without-secrets", false, "leave Secrets out")
	f.BoolVar(&o.list, "list", false, "say what is in FILE")
	addOutputFlag(cmd, &o.output)
	cmd.MarkFlagsMutuallyExclusive("without-secrets", "recipient")
	cmd.MarkFlagsMutuallyExclusive("without-secrets", "recipients-file")
	return cmd
}

// options reads who may read the Secrets.
func (o *backupOptions) options() (app.BackupOptions, error) {
	text := strings.Join(o.recipients, "\n")
	if o.recipientsFile != "" {
		data, err := os.ReadFile(o.recipientsFile)
		if err != nil {
			return app.BackupOptions{}, fmt.Errorf("--recipients-file: %w", err)
		}
		text += "\n" + string(data)
	}
	var out app.BackupOptions
	switch {
	case o.withoutSecrets:
		return out, nil
	case strings.TrimSpace(text) == "":
		return out, &exitError{exitUsage, withHint(errors.New("no key is named to encrypt the Secrets of the backup to"),
			"make one with 'age-keygen -o key.txt' and name its public half with --recipient age1…; or leave them out with --without-secrets")}
	}
	var err error
	out.Recipients, err = backup.ParseRecipients(text)
	return out, err
}

func runBackup(cmd *cobra.Command, o *backupOptions, file string) error {
	options, err := o.options()
	if err != nil {
		return err
	}
	inst, err := o.instance()
	if err != nil {
		return err
	}
	if err := requireUp(inst); err != nil {
		return err
	}
	steps := newStepPrinter(cmd.ErrOrStderr())
	options.Progress = steps.step
	counts, err := writeBackup(cmd.Context(), inst, options, file, cmd.OutOrStdout())
	steps.done(err)
	if err != nil {
		return err
	}
	say := cmd.OutOrStdout()
	if file == "-" {
		say = cmd.ErrOrStderr()
	}
	return printData(say, o.output, counts, func(t *tabwriter.Writer) { printCounts(t, counts) })
}

// writeBackup writes the file when it is whole, or as it comes to the output.
func writeBackup(ctx context.Context, inst *app.Instance, options app.BackupOptions, file string, out io.Writer) (backup.Counts, error) {
	if file == "-" {
		return inst.Backup(ctx, out, options)
	}
	pending, err := renameio.NewPendingFile(file, renameio.WithStaticPermissions(0o600))
	if err != nil {
		return backup.Counts{}, fmt.Errorf("writing %s: %w", file, err)
	}
	defer func() { _ = pending.Cleanup() }() // not there once it was replaced
	counts, err := inst.Backup(ctx, pending, options)
	if err != nil {
		return counts, err
	}
	if err := pending.CloseAtomicallyReplace(); err != nil {
		return counts, fmt.Errorf("writing %s: %w", file, err)
	}
	return counts, nil
}

func runBackupList(cmd *cobra.Command, o *backupOptions, file string) error {
	from, err := openBackup(cmd, file)
	if err != nil {
		return err
	}
	defer from.Close()
	info, err := app.ReadBackup(from)
	if err != nil {
		return err
	}
	return printData(cmd.OutOrStdout(), o.output, info, func(t *tabwriter.Writer) {
		secrets := "encrypted"
		if !info.Secrets {
			secrets = "left out"
		}
		fmt.Fprintf(t, "made\t%s\nby\tfairway %s, Kubernetes %s\nport\t%d\nsecrets\t%s\n",
			info.Time.Format(time.RFC3339), info.Fairway, info.Kubernetes, info.Config.Port, secrets)
		printCounts(t, info.Counts)
		for _, name := range info.Repositories {
			fmt.Fprintf(t, "repository\t%s\n", name)
		}
		for _, name := range info.Images {
			fmt.Fprintf(t, "images\t%s\n", name)
		}
	})
}

// openBackup opens the file, or the input where it is -.
func openBackup(cmd *cobra.Command, file string) (io.ReadCloser, error) {
	if file == "-" {
		return io.NopCloser(cmd.InOrStdin()), nil
	}
	return os.Open(file)
}

func printCounts(t *tabwriter.Writer, c backup.Counts) {
	fmt.Fprintf(t, "holds\t%d repositories, %d tags of %d images in %d blobs, %d objects, %d Secrets: %s\n",
		c.Repositories, c.Tags, c.Images, c.Blobs, c.Objects, c.Secrets, humanize.IBytes(uint64(c.Bytes)))
}
