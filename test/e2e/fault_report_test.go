package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// faultRow is what came of one kind of fault.
type faultRow struct {
	Fault string `json:"fault"`
	// Times is how often it was made, and Converged how often all was well after.
	Times     int `json:"times"`
	Converged int `json:"converged"`
	// Lost are objects that were not as Git has them, or not in an inventory,
	// Orphaned those that nobody wants or has in an inventory, each after it was
	// waited for in vain.
	Lost     int `json:"lost"`
	Orphaned int `json:"orphaned"`
	// Slowest is the longest time from the end of the fault until all was well.
	Slowest time.Duration `json:"slowest"`
	Note    string        `json:"note,omitempty"`
}

// faultReport is written as it grows, so that a run that is cut off leaves
// what it has found.
type faultReport struct {
	path string
	rows []faultRow
}

// newFaultReport writes to FAIRWAY_FAULTS, which is a name without an ending,
// or, in a soak, to faults in the project's bin.
func newFaultReport() *faultReport {
	path := os.Getenv("FAIRWAY_FAULTS")
	if path == "" && os.Getenv("FAIRWAY_SOAK") != "" {
		path = filepath.Join("..", "..", "bin", "faults")
	}
	return &faultReport{path: path}
}

// set has the row in place of the one of the same fault.
func (r *faultReport) set(t *testing.T, row faultRow) {
	t.Helper()
	row.Slowest = row.Slowest.Round(time.Millisecond)
	if i := slices.IndexFunc(r.rows, func(old faultRow) bool { return old.Fault == row.Fault }); i >= 0 {
		r.rows[i] = row
	} else {
		r.rows = append(r.rows, row)
	}
	if r.path == "" {
		return
	}
	data, err := json.MarshalIndent(r.rows, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	for ending, content := range map[string][]byte{".json": append(data, '\n'), ".txt": []byte(r.table())} {
		if err := os.WriteFile(r.path+ending, content, 0o644); err != nil {
			t.Error(err)
		}
	}
}

func (r *faultReport) table() string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FAULT\tTIMES\tCONVERGED\tLOST\tORPHANED\tSLOWEST\tNOTE")
	for _, row := range r.rows {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%s\t%s\n", row.Fault, row.Times, row.Converged, row.Lost, row.Orphaned, row.Slowest, row.Note)
	}
	_ = w.Flush()
	return out.String()
}
