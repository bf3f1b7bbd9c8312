package oci

import (
	"encoding/json"
	"io"
	"os"

	"github.com/spf13/pflag"

	"github.com/cortenhq/corten/internal/bundle/life"
	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

func updateFlags(f *pflag.FlagSet) {
	f.StringP("resources", "r", "", "a file with limits, as linux.resources in config.json; - is stdin")
	f.String("memory", "", "bytes of memory, or with k, m, g; -1: no limit")
	f.String("memory-reservation", "", "bytes of memory that are left alone while others have more to spare")
	f.String("memory-swap", "", "bytes of memory and swap together; -1: no limit")
	f.String("kernel-memory", "", "without effect since Linux 5.11")
	f.String("kernel-memory-tcp", "", "bytes of TCP buffers; cgroup v1 only")
	f.Uint64("cpu-shares", 0, "a weight against others, 2 to 262144")
	f.Uint64("cpu-share", 0, "as --cpu-shares")
	f.Int64("cpu-quota", 0, "microseconds of CPU time in each period; -1: no limit")
	f.Uint64("cpu-period", 0, "microseconds")
	f.Uint64("cpu-burst", 0, "microseconds of unused quota that may be spent later")
	f.Int64("cpu-rt-runtime", 0, "microseconds of realtime in each of its periods; cgroup v1 only")
	f.Uint64("cpu-rt-period", 0, "microseconds; cgroup v1 only")
	f.Int64("cpu-idle", 0, "1: run only when nothing else wants to")
	f.String("cpuset-cpus", "", "CPUs that may be used")
	f.String("cpuset-mems", "", "NUMA nodes that may be used")
	f.Int64("pids-limit", 0, "processes and threads; -1: no limit")
	f.Uint16("blkio-weight", 0, "a weight against others, 10 to 1000")
}

func update(c *command, f *pflag.FlagSet, args []string) error {
	r, err := limitsOf(f)
	if err != nil {
		return err
	}
	if len(r.Devices) > 0 {
		return errs.Newf(errs.Unsupported, "update container", args[0], "devices cannot be changed").WithHint("leave them out of the file")
	}
	return life.Update(c.root, args[0], r, c.warn)
}

// limitsOf reads a file, if one is named, and what flags say besides.
func limitsOf(f *pflag.FlagSet) (r spec.Resources, err error) {
	if file, _ := f.GetString("resources"); file != "" {
		if r, err = limitsIn(file); err != nil {
			return r, err
		}
	}
	for name, to := range map[string]*int64{
		"memory": &r.Memory.Limit, "memory-reservation": &r.Memory.Reservation, "memory-swap": &r.Memory.Swap,
		"kernel-memory": &r.Memory.Kernel, "kernel-memory-tcp": &r.Memory.KernelTCP,
	} {
		text, _ := f.GetString(name)
		if text == "" {
			continue
		}
		n, ok := spec.ParseSize(text)
		if text == "-1" {
			n, ok = -1, true
		}
		if !ok {
			return r, errs.Newf(errs.Invalid, "use --"+name, text, "it is no size").WithHint("write a number, with k, m or g after it for more than bytes: 512m")
		}
		*to = n
	}
	r.CPU.Shares = or(f.GetUint64, "cpu-share", r.CPU.Shares)
	r.CPU.Shares = or(f.GetUint64, "cpu-shares", r.CPU.Shares)
	r.CPU.Quota = or(f.GetInt64, "cpu-quota", r.CPU.Quota)
	r.CPU.Period = or(f.GetUint64, "cpu-period", r.CPU.Period)
	r.CPU.RealtimeRuntime = or(f.GetInt64, "cpu-rt-runtime", r.CPU.RealtimeRuntime)
	r.CPU.RealtimePeriod = or(f.GetUint64, "cpu-rt-period", r.CPU.RealtimePeriod)
	r.CPU.Cpus = or(f.GetString, "cpuset-cpus", r.CPU.Cpus)
	r.CPU.Mems = or(f.GetString, "cpuset-mems", r.CPU.Mems)
	r.BlockIO.Weight = or(f.GetUint16, "blkio-weight", r.BlockIO.Weight)
	if f.Changed("cpu-burst") {
		n, _ := f.GetUint64("cpu-burst")
		r.CPU.Burst = &n
	}
	if f.Changed("cpu-idle") {
		n, _ := f.GetInt64("cpu-idle")
		r.CPU.Idle = &n
	}
	if n := or(f.GetInt64, "pids-limit", 0); n != 0 {
		r.Pids.Limit = &n
	}
	return r, nil
}

// limitsIn reads a file.
func limitsIn(file string) (r spec.Resources, err error) {
	var text []byte
	if file == "-" {
		text, err = io.ReadAll(io.LimitReader(os.Stdin, 1<<20))
	} else {
		text, err = disk.ReadAtMost(file, 1<<20)
	}
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		return r, errs.New(errs.KindOf(err), "read limits", file, err)
	}
	return r, nil
}

// or is a flag's value, if it is set, or else that of the file.
func or[T comparable](get func(string) (T, error), name string, file T) T {
	var none T
	if v, _ := get(name); v != none {
		return v
	}
	return file
}
