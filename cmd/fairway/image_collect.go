package main

import (
	"fmt"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/fairway-cd/fairway/internal/web"
)

func newImageCollectCommand(o *imageOptions) *cobra.Command {
	var minAge time.Duration
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "collect",
		Short: "Free the space of images that nobody needs, now",
		Long: `Free the space of images that nobody needs, now. The instance does so every day.

What has a tag, runs, or may be rolled back to stays, and so does whatever was
used within the minimum age. A push that takes longer than the minimum age may
have to be done again.`,
		Example: "  fairway image collect --dry-run\n  fairway image collect --min-age 1h",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.api(cmd.Context())
			if err != nil {
				return err
			}
			c.http.Timeout = 0 // as long as it takes
			in := web.CollectRequest{DryRun: dryRun}
			if cmd.Flags().Changed("min-age") {
				in.MinAge = minAge.String()
			}
			var report web.CollectReport
			if err := c.do(cmd.Context(), http.MethodPost, "/api/v1/images/collect", in, &report); err != nil {
				return err
			}
			return printData(cmd.OutOrStdout(), o.output, report, func(t *tabwriter.Writer) {
				for _, m := range report.Manifests {
					fmt.Fprintln(t, m)
				}
				fmt.Fprintf(t, "%d images, %d blobs, %s\n", len(report.Manifests), report.Blobs, humanize.Bytes(uint64(report.Bytes)))
			})
		},
	}
	cmd.Flags().DurationVar(&minAge, "min-age", 24*time.Hour, "how long something must not have been used")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would go")
	addOutputFlag(cmd, &o.output)
	return cmd
}
