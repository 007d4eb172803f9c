package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/fairway-cd/fairway/internal/controller"
	"github.com/fairway-cd/fairway/internal/core"
)

// comparison is several deliveries side by side.
type comparison struct {
	Columns []comparedColumn `json:"columns"`
	Rows    []comparedRow    `json:"rows"`
	// Different says that some row is, or that a cluster is away.
	Different bool `json:"different"`
}

// comparedColumn is one delivery.
type comparedColumn struct {
	Application string `json:"application"`
	Cluster     string `json:"cluster"`
	Server      string `json:"server"`
	// Away is why the cluster cannot be asked; what its column says was known
	// last.
	Away string `json:"away,omitempty"`
}

// comparedRow is one thing that deliveries have, by column.
type comparedRow struct {
	// Object is "" for what is of the whole.
	Object string   `json:"object,omitempty"`
	What   string   `json:"what"`
	Values []string `json:"values"`
	// Different says that the values are not all the same.
	Different bool `json:"different"`
}

func newAppCompareCommand(o *appOptions) *cobra.Command {
	var output string
	var which appSelection
	var all bool
	cmd := &cobra.Command{
		Use:   "compare NAME…",
		Short: "Compare applications, such as the same one in several clusters, in one table",
		Long: `Compare applications, such as the same one in several clusters, in one table: a
column a cluster; rows are the revision, which objects there are and how they
are, and the images and replicas of workloads, as they are live there. Only what
differs is shown, unless --all is given.

A cluster that is away is shown as away, with what was known of it last. The
exit code is 1 where there is a difference, or a cluster is away.`,
		Example: `  fairway app compare web-staging web-prod-us web-prod-eu
  fairway app compare --selector app=web --all
  fairway app compare --appset web -o json`,
		Args: func(_ *cobra.Command, args []string) error {
			if !which.given() && len(args) < 2 {
				return usage("want the names of two applications or more, --selector or --appset")
			}
			return which.check(args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return runAppCompare(cmd.Context(), o, args, &which, all, output, cmd.OutOrStdout())
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			return o.completeApps(cmd.Context(), args)
		},
	}
	which.add(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "show what is the same, too")
	addOutputFlag(cmd, &output)
	return cmd
}

// completeApps are the names of Applications, for a shell.
func (o *appOptions) completeApps(ctx context.Context, given []string) ([]string, cobra.ShellCompDirective) {
	names, err := new(appSelection).names(ctx, o)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return slices.DeleteFunc(names, func(name string) bool { return slices.Contains(given, name) }), cobra.ShellCompDirectiveNoFileComp
}

func runAppCompare(ctx context.Context, o *appOptions, names []string, which *appSelection, all bool, output string, out io.Writer) error {
	if which.given() {
		var err error
		if names, err = which.names(ctx, o); err != nil {
			return err
		}
		if len(names) < 2 {
			return withHint(fmt.Errorf("%d applications are selected", len(names)), "it takes two to compare; 'fairway app list' shows what there is")
		}
	}
	list, err := o.liveOf(ctx, names)
	if err != nil {
		return err
	}
	c := compareLive(names, list)
	if !all {
		c.Rows = slices.DeleteFunc(c.Rows, func(r comparedRow) bool { return !r.Different })
	}
	if err := printData(out, output, c, func(t *tabwriter.Writer) { printComparison(t, c, all) }); err != nil {
		return err
	}
	if c.Different {
		return errDifferent()
	}
	return nil
}

// liveOf asks the server what the deliveries have, several at a time.
func (o *appOptions) liveOf(ctx context.Context, names []string) ([]controller.Live, error) {
	list, errs := make([]controller.Live, len(names)), make([]error, len(names))
	var running sync.WaitGroup
	places := make(chan struct{}, 2) // as many as one user may have under way
	for i, name := range names {
		places <- struct{}{}
		running.Go(func() {
			defer func() { <-places }()
			errs[i] = o.ask(ctx, name, request{method: http.MethodGet, what: "live", out: &list[i]})
		})
	}
	running.Wait()
	for i, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("asking for %s: %w", names[i], err)
		}
	}
	return list, nil
}

// What a value is where there is none.
const (
	valueNone = "-"
	valueAway = "?"
)

// compareLive puts deliveries side by side.
func compareLive(names []string, list []controller.Live) comparison {
	c := comparison{Rows: []comparedRow{}}
	rows := map[[2]string]int{}
	set := func(column int, object, what, value string) {
		key := [2]string{object, what}
		at, ok := rows[key]
		if !ok {
			at = len(c.Rows)
			rows[key] = at
			c.Rows = append(c.Rows, comparedRow{Object: object, What: what, Values: make([]string, len(list))})
		}
		c.Rows[at].Values[column] = value
	}
	for i, live := range list {
		c.Columns = append(c.Columns, comparedColumn{Application: names[i], Cluster: live.Cluster, Server: live.Server, Away: live.Away})
		c.Different = c.Different || live.Away != "" // nobody knows
		set(i, "", "revision", live.Revision)
		for _, o := range live.Objects {
			name := objectName(o.Ref, homeNamespace(live.Objects))
			state := o.State
			if o.Health != "" && o.Health != core.Healthy {
				state += ", " + string(o.Health)
			}
			set(i, name, "state", state)
			for container, image := range o.Images {
				set(i, name, "image of "+container, image)
			}
			if o.Replicas != nil {
				set(i, name, "replicas", strconv.FormatInt(*o.Replicas, 10))
			}
		}
	}
	for i := range c.Rows {
		c.Rows[i].finish(list)
		c.Different = c.Different || c.Rows[i].Different
	}
	slices.SortStableFunc(c.Rows, func(a, b comparedRow) int {
		return cmp.Or(cmp.Compare(a.Object, b.Object), rank(a.What)-rank(b.What), cmp.Compare(a.What, b.What))
	})
	return c
}

// rank is the order of an object's rows; images come last.
func rank(what string) int {
	if i := slices.Index([]string{"revision", "state", "replicas"}, what); i >= 0 {
		return i
	}
	return 3
}

// finish fills in what is not there, and says whether the values differ.
func (r *comparedRow) finish(list []controller.Live) {
	for i := range r.Values {
		away := list[i].Away != ""
		switch {
		case away && r.What != "revision":
			r.Values[i] = valueAway
		case r.Values[i] == "":
			r.Values[i] = valueNone
		}
	}
	r.Different = len(slices.Compact(slices.Clone(r.Values))) > 1
}

// homeNamespace is the namespace of most objects, which may be another one in
// each cluster.
func homeNamespace(objects []controller.LiveObject) string {
	count, most := map[string]int{}, ""
	for _, o := range objects {
		if ns := o.Ref.Namespace; ns != "" {
			count[ns]++
			if count[ns] > count[most] || count[ns] == count[most] && ns < most {
				most = ns
			}
		}
	}
	return most
}

// objectName is KIND/NAME, with the namespace where it is not the usual one.
func objectName(ref core.ObjectRef, usual string) string {
	kind := ref.Kind
	if ref.Group != "" && !builtin[ref.Group] {
		kind += "." + ref.Group
	}
	if ref.Namespace != "" && ref.Namespace != usual {
		return kind + "/" + ref.Namespace + "/" + ref.Name
	}
	return kind + "/" + ref.Name
}

// builtin are the groups whose kinds everybody knows without them.
var builtin = map[string]bool{"apps": true, "batch": true, "networking.k8s.io": true, "rbac.authorization.k8s.io": true, "autoscaling": true, "policy": true}

func printComparison(t *tabwriter.Writer, c comparison, all bool) {
	heads := make([]string, len(c.Columns))
	for i, column := range c.Columns {
		heads[i] = strings.ToUpper(column.Cluster)
		for j, other := range c.Columns {
			if i != j && other.Cluster == column.Cluster {
				heads[i] = column.Application + "@" + strings.ToUpper(column.Cluster)
			}
		}
		if column.Away != "" {
			heads[i] += " (AWAY)"
		}
	}
	switch {
	case !c.Different && !all:
		fmt.Fprintf(t, "no difference between %s\n", strings.Join(heads, ", "))
		return
	case len(c.Rows) > 0:
		fmt.Fprintf(t, "OBJECT\tWHAT\t%s\n", strings.Join(heads, "\t"))
	}
	for _, r := range c.Rows {
		values := slices.Clone(r.Values)
		if r.What == "revision" {
			for i := range values {
				values[i] = shortCommits(values[i])
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", cmp.Or(r.Object, valueNone), r.What, strings.Join(values, "\t"))
	}
	for i, column := range c.Columns {
		if column.Away != "" {
			fmt.Fprintf(t, "%s: %s\n", heads[i], column.Away)
		}
	}
}
