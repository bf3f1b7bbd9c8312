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
	f.Int64("memory", 0, "bytes of memory")
	f.Int64("memory-reservation", 0, "bytes of memory that are left alone while others have more to spare")
	f.Int64("memory-swap", 0, "bytes of memory and swap together; -1: no limit")
	f.Uint64("cpu-shares", 0, "a weight against others, 2 to 262144")
	f.Uint64("cpu-share", 0, "as --cpu-shares")
	f.Int64("cpu-quota", 0, "microseconds of CPU time in each period")
	f.Uint64("cpu-period", 0, "microseconds")
	f.String("cpuset-cpus", "", "CPUs that may be used")
	f.String("cpuset-mems", "", "NUMA nodes that may be used")
	f.Int64("pids-limit", 0, "processes and threads; -1: no limit")
	f.Uint16("blkio-weight", 0, "a weight against others, 10 to 1000")
}

func update(c *command, f *pflag.FlagSet, args []string) error {
	var r spec.Resources
	if file, _ := f.GetString("resources"); file != "" {
		var text []byte
		var err error
		if file == "-" {
			text, err = io.ReadAll(io.LimitReader(os.Stdin, 1<<20))
		} else {
			text, err = disk.ReadAtMost(file, 1<<20)
		}
		if err == nil {
			err = json.Unmarshal(text, &r)
		}
		if err != nil {
			return errs.New(errs.KindOf(err), "read limits", file, err)
		}
		if len(r.Devices) > 0 {
			return errs.Newf(errs.Unsupported, "update container", args[0], "devices cannot be changed").WithHint("leave them out of the file")
		}
	}
	r.Memory.Limit, _ = or(f.GetInt64, "memory", r.Memory.Limit)
	r.Memory.Reservation, _ = or(f.GetInt64, "memory-reservation", r.Memory.Reservation)
	r.Memory.Swap, _ = or(f.GetInt64, "memory-swap", r.Memory.Swap)
	r.CPU.Shares, _ = or(f.GetUint64, "cpu-share", r.CPU.Shares)
	r.CPU.Shares, _ = or(f.GetUint64, "cpu-shares", r.CPU.Shares)
	r.CPU.Quota, _ = or(f.GetInt64, "cpu-quota", r.CPU.Quota)
	r.CPU.Period, _ = or(f.GetUint64, "cpu-period", r.CPU.Period)
	r.CPU.Cpus, _ = or(f.GetString, "cpuset-cpus", r.CPU.Cpus)
	r.CPU.Mems, _ = or(f.GetString, "cpuset-mems", r.CPU.Mems)
	r.BlockIO.Weight, _ = or(f.GetUint16, "blkio-weight", r.BlockIO.Weight)
	if n, set := or(f.GetInt64, "pids-limit", int64(0)); set {
		r.Pids.Limit = &n
	}
	return life.Update(c.root, args[0], r)
}

// or is a flag's value, if it is set, or else that of the file.
func or[T comparable](get func(string) (T, error), name string, file T) (T, bool) {
	var none T
	if v, _ := get(name); v != none {
		return v, true
	}
	return file, false
}
