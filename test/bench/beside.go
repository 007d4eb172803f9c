package main

import (
	"fmt"
	"io"
	"os"
	"text/tabwriter"
)

// columns are the fleets that are set beside one another, where they were
// measured in one run.
var columns = []struct{ workload, title string }{{"fleet", "Fairway"}, {"flux", "Flux"}, {"argocd", "Argo CD"}}

// beside prints what each of them needed for the same.
func beside(rows []row) error {
	type cell struct {
		apps           int
		step, workload string
	}
	cells := map[cell]row{}
	rivals := false
	for _, r := range rows {
		cells[cell{r.Apps, r.Step, r.Workload}] = r
		rivals = rivals || r.Workload == "flux" || r.Workload == "argocd"
	}
	if !rivals {
		return nil
	}
	fmt.Println()
	t := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprint(t, "apps\twhat\t")
	for _, c := range columns {
		fmt.Fprintf(t, "%s\t", c.title)
	}
	fmt.Fprintln(t)
	for _, r := range rows {
		if r.Workload != columns[0].workload {
			continue
		}
		fmt.Fprintf(t, "%d\t%s\t", r.Apps, r.Step)
		for _, c := range columns {
			theirs, ok := cells[cell{r.Apps, r.Step, c.workload}]
			printCell(t, theirs, ok)
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

// printCell prints the time, the CPU of what is measured and of the cluster,
// and the memory. A commit that changes nothing has no time: nobody sees its
// end.
func printCell(w io.Writer, r row, ok bool) {
	switch {
	case !ok:
		fmt.Fprint(w, "-\t")
	case r.Step == stepNone:
		fmt.Fprintf(w, "%.2f + %.2f CPU s, %d MiB\t", r.CPU, r.ClusterCPU, r.Peak>>20)
	default:
		fmt.Fprintf(w, "%.2f s, %.2f + %.2f CPU s, %d MiB\t", r.P50, r.CPU, r.ClusterCPU, r.Peak>>20)
	}
}
