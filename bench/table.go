package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// metric is a thing measured, in a unit. Less is better for all of them, but where a table says else.
type metric string

// The metrics, named as the tables and the JSON file name them. MB are 10^6 bytes.
const (
	wallMs     metric = "time ms"
	wallS      metric = "time s"
	cpuS       metric = "CPU s"
	syncS      metric = "sync after s"   // how long the kernel then writes what the pull left dirty
	peakMB     metric = "peak memory MB" // usage.peak, or a start's largest process
	standingMB metric = "daemons MB"     // what has to run all the time
	fetchedMB  metric = "fetched MB"
	diskMB     metric = "disk MB"
)

// digits is how many of them stand after the point in tables.
func (m metric) digits() int {
	if strings.HasSuffix(string(m), "MB") {
		return 1
	}
	return 2
}

// table is the result of a benchmark: a row for each peer, the first metric the one that
// ratios are made of.
type table struct {
	Name, Title string
	Metrics     []metric
	Rows        []*row
	Base        string `json:",omitempty"` // the row that differences are taken to, if any
	Across      bool   `json:",omitempty"` // the metrics are peers, Corten first, and the rows what they did, with units of their own
}

// row is what was measured of one peer. Note says why there is nothing, when there is.
type row struct {
	Peer    string
	Note    string `json:",omitempty"`
	Samples map[metric][]float64
}

// row adds a row.
func (t *table) row(peer string) *row {
	r := &row{Peer: peer, Samples: map[metric][]float64{}}
	t.Rows = append(t.Rows, r)
	return r
}

func (r *row) add(m metric, v float64) { r.Samples[m] = append(r.Samples[m], v) }

func (r *row) median(m metric) float64 { return quantile(r.Samples[m], 0.5) }

// quantile is the value that the share q of the samples does not exceed, between two
// samples interpolated; NaN without samples.
func quantile(samples []float64, q float64) float64 {
	if len(samples) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(samples))
	at := q * float64(len(s)-1)
	low := int(at)
	if low+1 == len(s) {
		return s[low]
	}
	return s[low] + (at-float64(low))*(s[low+1]-s[low])
}

// cells is the table as text, its heading first.
func (t *table) cells() [][]string {
	main := t.Metrics[0]
	spread := !t.Across && slices.ContainsFunc(t.Rows, func(r *row) bool { return len(r.Samples[main]) > 2 })
	head := []string{""}
	for i, m := range t.Metrics {
		head = append(head, string(m))
		if i == 0 && spread {
			head = append(head, "p90", "min")
		}
	}
	if t.Across {
		head = append(head, string(main)+"/"+string(t.Metrics[len(t.Metrics)-1]))
	} else {
		head = append(head, "corten/peer")
	}
	if t.Base != "" {
		head = append(head, "over "+t.Base)
	}
	lines := [][]string{head}
	for _, r := range t.Rows {
		line := []string{r.Peer}
		if r.Note != "" {
			lines = append(lines, append(line, r.Note))
			continue
		}
		for i, m := range t.Metrics {
			line = append(line, number(r.median(m), m.digits()))
			if i == 0 && spread {
				line = append(line, number(quantile(r.Samples[m], 0.9), m.digits()), number(quantile(r.Samples[m], 0), m.digits()))
			}
		}
		line = append(line, number(t.ratio(r), 2))
		if t.Base != "" {
			line = append(line, number(r.median(main)-t.median(t.Base), main.digits()))
		}
		lines = append(lines, line)
	}
	return lines
}

// ratio is Corten's median, the first row's, by the row's; across, the first metric's by the last one's.
func (t *table) ratio(r *row) float64 {
	if t.Across {
		return r.median(t.Metrics[0]) / r.median(t.Metrics[len(t.Metrics)-1])
	}
	return t.Rows[0].median(t.Metrics[0]) / r.median(t.Metrics[0])
}

func (t *table) median(peer string) float64 {
	for _, r := range t.Rows {
		if r.Peer == peer {
			return r.median(t.Metrics[0])
		}
	}
	return math.NaN()
}

func number(v float64, digits int) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return "-"
	}
	return fmt.Sprintf("%.*f", digits, v)
}

// text is the table for a terminal.
func (t *table) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s: %s\n", t.Name, t.Title)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, line := range t.cells() {
		fmt.Fprintf(w, "  %s\n", strings.Join(line, "\t"))
	}
	w.Flush()
	return b.String()
}

// markdown is the table for SPECIFICATION.md.
func (t *table) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s**: %s\n\n", t.Name, t.Title)
	cells := t.cells()
	for i, line := range cells {
		for len(line) < len(cells[0]) {
			line = append(line, "")
		}
		for n := range line {
			line[n] = strings.ReplaceAll(line[n], "|", "\\|")
		}
		fmt.Fprintf(&b, "| %s |\n", strings.Join(line, " | "))
		if i == 0 {
			fmt.Fprintf(&b, "|---%s\n", strings.Repeat("|--:", len(line)-1)+"|")
		}
	}
	return b.String()
}
