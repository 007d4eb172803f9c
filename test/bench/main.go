// Command bench measures what the documentation says of Fairway's speed: it
// starts an instance of its own in a temporary directory, drives it with git
// and the Kubernetes API as users do, prints a table and writes it as JSON.
// CPU seconds are of the server with its children, the embedded cluster not
// included, for machines are shared and wall time alone says little.
//
// With -only compare it measures Flux's and Argo CD's controllers too, with the
// same apps on a cluster of the same kind, where their programs are in PATH:
// docs/spec/speed.md says how to come by them.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// row is one measurement.
type row struct {
	Name string `json:"name"`
	// P50, P95 and Max are seconds of wall time.
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	Max float64 `json:"max"`
	N   int     `json:"n"`
	// CPU is seconds a try, of our processes.
	CPU float64 `json:"cpu"`
	// Want is the bound of P50 and P95 that the project has set itself; 0 is none.
	WantP50 float64 `json:"wantP50,omitempty"`
	WantP95 float64 `json:"wantP95,omitempty"`
	Note    string  `json:"note,omitempty"`

	// Of a fleet: which, how many apps, what was done; the embedded cluster's
	// CPU and writes a try, and our memory in bytes: at the end, and at most.
	Workload   string  `json:"workload,omitempty"`
	Apps       int     `json:"apps,omitempty"`
	Step       string  `json:"step,omitempty"`
	ClusterCPU float64 `json:"clusterCPU,omitempty"`
	Writes     float64 `json:"writes,omitempty"`
	Memory     int64   `json:"memory,omitempty"`
	Peak       int64   `json:"peak,omitempty"`
}

type report struct {
	Date    time.Time `json:"date"`
	Cores   int       `json:"cores"`
	Memory  string    `json:"memory"`
	CPU     string    `json:"cpu"`
	Version string    `json:"version"`
	Rows    []row     `json:"rows"`
}

func main() {
	out := flag.String("o", "bench.json", "write the results here")
	bin := flag.String("fairway", "bin/fairway", "the program to measure")
	tries := flag.Int("n", 20, "tries of each latency")
	only := flag.String("only", "", "measure only this: latency, fleet, argo or compare")
	fleets := flag.String("fleet", "100,500,1000", "how many apps, with commas between")
	argo := flag.String("argo", "1000", "how many Applications of one ConfigMap, with commas between")
	flag.Parse()
	plan := plan{tries: *tries, only: *only}
	for name, list := range map[string]struct {
		text string
		into *[]int
	}{"fleet": {*fleets, &plan.fleets}, "argo": {*argo, &plan.argo}} {
		var err error
		if *list.into, err = parseSizes(list.text); err != nil {
			fmt.Fprintf(os.Stderr, "bench: -%s: %v\n", name, err)
			os.Exit(2)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *bin, *out, plan)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parseSizes(list string) ([]int, error) {
	var sizes []int
	for _, text := range strings.Split(list, ",") {
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, err
		}
		sizes = append(sizes, n)
	}
	return sizes, nil
}

// plan is what to measure.
type plan struct {
	tries        int
	only         string
	fleets, argo []int
}

// wants says whether a part is to be measured.
func (p plan) wants(part string) bool { return p.only == part || p.only == "" && part != "compare" }

func run(ctx context.Context, bin, out string, p plan) error {
	b, err := newBench(bin, p.tries)
	if err != nil {
		return err
	}
	defer b.close()
	r := report{Date: time.Now().UTC(), Cores: runtime.NumCPU(), Memory: memoryTotal(), CPU: cpuModel()}
	var measures []func(context.Context) ([]row, error)
	if p.wants("latency") {
		measures = append(measures, b.start, b.push, b.drift, b.idle, b.restore, b.realPod)
	}
	if p.wants("fleet") {
		measures = append(measures, b.fleets(fluxWorkload(), p.fleets))
	}
	if p.wants("argo") {
		measures = append(measures, b.fleets(argoWorkload(), p.argo))
	}
	if p.wants("compare") {
		measures = append(measures, b.compare(p.fleets))
	}
	for _, measure := range measures {
		rows, err := measure(ctx)
		r.Rows = append(r.Rows, rows...)
		if err != nil {
			return err
		}
		for _, row := range rows {
			fmt.Fprintf(os.Stderr, "  %s: p50 %.3f s, p95 %.3f s\n", row.Name, row.P50, row.P95)
		}
	}
	r.Version = b.version
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(out, append(data, '\n'), 0o644); err != nil {
		return err
	}
	return print(r)
}

func print(r report) error {
	fmt.Printf("%d cores, %s, %s; %s\n\n", r.Cores, r.CPU, r.Memory, r.Version)
	t := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "what\tp50\twanted\tp95\twanted\tmax\tn\tCPU s\tnote\t")
	for _, row := range r.Rows {
		fmt.Fprintf(t, "%s\t%.3f\t%s\t%.3f\t%s\t%.3f\t%d\t%.3f\t%s\t\n", row.Name, row.P50, bound(row.WantP50),
			row.P95, bound(row.WantP95), row.Max, row.N, row.CPU, row.Note)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if err := curve(r.Rows); err != nil {
		return err
	}
	return beside(r.Rows)
}

func bound(v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", v)
}

// summarize makes a row of durations.
func summarize(name string, all []time.Duration, cpu float64, wantP50, wantP95 float64) row {
	slices.Sort(all)
	at := func(q float64) float64 {
		i := int(q*float64(len(all))+0.5) - 1
		return all[max(0, min(i, len(all)-1))].Seconds()
	}
	return row{Name: name, P50: at(0.5), P95: at(0.95), Max: all[len(all)-1].Seconds(), N: len(all),
		CPU: cpu / float64(len(all)), WantP50: wantP50, WantP95: wantP95}
}
