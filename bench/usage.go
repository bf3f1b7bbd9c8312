package main

import (
	"io"
	"os"
	"strconv"
	"time"

	"github.com/cortenhq/corten/bench/procs"
)

// usage is what a command cost.
type usage struct {
	wall, cpu time.Duration
	largest   int64 // bytes: the largest resident set of one of its processes
	together  int64 // bytes: growth of the resident sets of all processes of the run
}

// peak is the memory that the command needed: of one process, exactly, or of several at
// once as samples saw them; whichever is more.
func (u usage) peak() int64 { return max(u.largest, u.together) }

// measure runs argv through the program peak. The time that the daemon spends meanwhile, with
// its children, counts as the command's; daemon is its process or 0.
func (r *bench) measure(peak string, daemon int, argv []string) (usage, error) {
	out, in, err := os.Pipe()
	if err != nil {
		return usage{}, err
	}
	defer out.Close()
	cmd := r.command(append([]string{peak}, argv...))
	cmd.ExtraFiles = []*os.File{in}
	from, _ := r.log.Seek(0, io.SeekEnd)
	before := procs.CPU(daemon)
	growth := procs.Sample(r.aside)
	begin := time.Now()
	err = cmd.Run()
	u := usage{wall: time.Since(begin), together: growth()}
	in.Close()
	if err != nil {
		return u, r.explain(argv, from, err)
	}
	text, _ := io.ReadAll(out)
	kib, err := strconv.ParseInt(string(text), 10, 64)
	u.largest = kib << 10
	u.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime() + procs.CPU(daemon) - before
	return u, err
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
