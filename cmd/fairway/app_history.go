package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/controller"
)

// deployedRow is one entry of a history.
type deployedRow struct {
	ID   int64     `json:"id"`
	Date time.Time `json:"date"`
	// Revision is the commit; of several sources one for each, with commas
	// between.
	Revision string           `json:"revision"`
	By       string           `json:"by,omitempty"`
	Sources  []deployedSource `json:"sources,omitempty"`
}

func newAppHistoryCommand(o *appOptions) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "history NAME",
		Short:   "Show what was deployed, and when",
		Example: "  fairway app history web-app",
		Args:    oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runAppHistory(cmd.Context(), o, args[0], output, cmd.OutOrStdout())
		},
	}
	addOutputFlag(cmd, &output)
	return cmd
}

func runAppHistory(ctx context.Context, o *appOptions, name, output string, out io.Writer) error {
	_, obj, err := o.open(ctx, name)
	if err != nil {
		return err
	}
	rows := historyOf(obj)
	return printData(out, output, rows, func(t *tabwriter.Writer) {
		fmt.Fprintln(t, "ID\tDATE\tREVISION\tBY\tSOURCE")
		for _, r := range rows {
			r.print(t)
		}
	})
}

// historyOf is the delivery's history, the oldest first.
func historyOf(obj client.Object) []deployedRow {
	rows := []deployedRow{}
	switch obj := obj.(type) {
	case *argo.Application:
		for _, h := range obj.Status.History {
			r := deployedRow{ID: h.ID, Date: h.DeployedAt.Time, Revision: h.Revision, By: h.InitiatedBy.Username}
			if h.InitiatedBy.Automated {
				r.By = "automated"
			}
			if r.Revision == "" {
				r.Revision = strings.Join(h.Revisions, ",")
			}
			r.Sources = deployedSources(h)
			rows = append(rows, r)
		}
	case *helmv2.HelmRelease:
		return helmHistory(obj)
	case *kustomizev1.Kustomization:
		for i, h := range slices.Backward(obj.Status.History) {
			_, commit, _ := strings.Cut(h.Metadata["revision"], ":")
			rows = append(rows, deployedRow{ID: int64(len(obj.Status.History) - i), Date: h.LastReconciled.Time, Revision: commit, By: h.LastReconciledStatus})
		}
	}
	return rows
}

func newAppRollbackCommand(o *appOptions) *cobra.Command {
	var reason, output, to string
	var which appSelection
	cmd := &cobra.Command{
		Use:   "rollback NAME [ID|REVISION]",
		Short: "Go back to what was deployed before",
		Long: `Go back to what was deployed before: the one before the current one, or the
entry of the history with that ID or revision.

A forward commit in your name restores exactly the files that the application
read then, in each repository that it reads, and is brought out as any commit
is. Where you may not push, the repository is not on this server, or it is a
chart of a registry, the application is pinned to what was good, and what is
still to be done is said.

Several applications go back together with --to, where NAME… are all names,
--selector or --appset, and what they want of one branch is one commit. All is
found out before anything is done: where one of them cannot go back, none does.`,
		Example: `  fairway app rollback web-app
  fairway app rollback web-app 3 --reason 'checkout is broken'
  fairway app rollback web-staging web-prod-us web-prod-eu --to 4f2a91c
  fairway app rollback --selector app=web --to 4f2a91c
  fairway app rollback --appset web --to 4f2a91c`,
		Args: func(_ *cobra.Command, args []string) error { return rollbackArgs(args, to, &which) },
		RunE: func(cmd *cobra.Command, args []string) error {
			asked := controller.Rollback{Reason: reason, To: to}
			if which.given() || to != "" && len(args) > 1 {
				return runAppRollbacks(cmd.Context(), o, args, &which, asked, output, cmd.OutOrStdout())
			}
			if len(args) > 1 {
				asked.To = args[1]
			}
			return runAppRollback(cmd.Context(), o, args[0], asked, output, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the commit's message or the pin")
	cmd.Flags().StringVar(&to, "to", "", "ID or revision to go back to; with it all arguments are names")
	which.add(cmd)
	addOutputFlag(cmd, &output)
	return cmd
}

func runAppRollback(ctx context.Context, o *appOptions, name string, asked controller.Rollback, output string, out io.Writer) error {
	var result controller.RollbackResult
	if err := o.ask(ctx, name, request{http.MethodPost, "rollback", asked, &result}); err != nil {
		return fmt.Errorf("rolling %s back: %w", name, err)
	}
	return printData(out, output, result, func(t *tabwriter.Writer) {
		printRollback(t, name, result)
	})
}

func newAppPinCommand(o *appOptions) *cobra.Command {
	var revision, reason string
	cmd := &cobra.Command{
		Use:     "pin NAME",
		Short:   "Hold an application at a revision, whatever is committed",
		Example: "  fairway app pin web-app --reason 'incident 42'\n  fairway app pin web-app --revision 1f3c2d4",
		Args:    oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runAppPin(cmd.Context(), o, args[0], revision, reason, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&revision, "revision", "", "the revision (default: the one that is deployed); of several sources one for each, with commas between")
	cmd.Flags().StringVar(&reason, "reason", "", "why")
	return cmd
}

func runAppPin(ctx context.Context, o *appOptions, name, revision, reason string, out io.Writer) error {
	c, obj, err := o.open(ctx, name)
	if err != nil {
		return err
	}
	if err := ofHelm(obj, "pinned"); err != nil {
		return err
	}
	if revision == "" {
		if revision = currentRevision(obj); revision == "" {
			return withHint(fmt.Errorf("%s was not deployed yet", name), "name a revision with --revision")
		}
	}
	err = annotate(ctx, c, obj, map[string]string{
		controller.AnnotationPinnedRevision: revision, controller.AnnotationPinnedReason: reason,
		controller.AnnotationPinnedBy: whoAmI(ctx, c), controller.AnnotationPinnedAt: time.Now().UTC().Format(time.RFC3339),
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s is pinned to %s\n", name, shortCommits(revision))
	return nil
}

// currentRevision is the commit that was deployed last; of several sources one
// for each, with commas between.
func currentRevision(obj client.Object) string {
	if k, ok := obj.(*kustomizev1.Kustomization); ok {
		_, commit, _ := strings.Cut(k.Status.LastAppliedRevision, ":")
		return commit
	}
	history := historyOf(obj)
	if len(history) == 0 {
		return ""
	}
	return history[len(history)-1].Revision
}

func newAppUnpinCommand(o *appOptions) *cobra.Command {
	return &cobra.Command{
		Use:     "unpin NAME",
		Short:   "Let a pinned application follow its source again",
		Example: "  fairway app unpin web-app",
		Args:    oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runAppUnpin(cmd.Context(), o, args[0], cmd.OutOrStdout())
		},
	}
}

func runAppUnpin(ctx context.Context, o *appOptions, name string, out io.Writer) error {
	c, obj, err := o.open(ctx, name)
	if err != nil {
		return err
	}
	if obj.GetAnnotations()[controller.AnnotationPinnedRevision] == "" {
		fmt.Fprintf(out, "%s is not pinned\n", name)
		return nil
	}
	err = annotate(ctx, c, obj, map[string]string{
		controller.AnnotationPinnedRevision: "", controller.AnnotationPinnedReason: "",
		controller.AnnotationPinnedBy: "", controller.AnnotationPinnedAt: "",
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s follows its source again\n", name)
	return nil
}
