package main

import (
	"fmt"
	"os"
	"text/tabwriter"
)

// curve prints what a commit costs by how many apps there are: it should be
// the same.
func curve(rows []row) error {
	byApps := map[string]map[int]row{}
	var sizes []int
	for _, r := range rows {
		if r.Workload == "" {
			continue
		}
		if byApps[r.Workload+r.Step] == nil {
			byApps[r.Workload+r.Step] = map[int]row{}
		}
		byApps[r.Workload+r.Step][r.Apps] = r
		if r.Step == stepInstall {
			sizes = append(sizes, r.Apps)
		}
	}
	if len(sizes) == 0 {
		return nil
	}
	fmt.Println()
	t := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "apps\tone: s\tone: CPU s\tnone: CPU s\tdrift: s\tdrift: CPU s\tmemory MiB\tat most\t")
	for _, r := range rows {
		if r.Step != stepInstall {
			continue
		}
		at := func(step string) row { return byApps[r.Workload+step][r.Apps] }
		one, none, heal := at(stepOne), at(stepNone), at(stepHeal)
		fmt.Fprintf(t, "%d %s\t%.3f\t%.3f\t%.3f\t%.3f\t%.3f\t%d\t%d\t\n",
			r.Apps, r.Workload, one.P50, one.CPU, none.CPU, heal.P50, heal.CPU, heal.Memory>>20, r.Peak>>20)
	}
	return t.Flush()
}
