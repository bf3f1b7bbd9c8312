package oci

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/bundle/life"
	"github.com/cortenhq/corten/internal/bundle/record"
	"github.com/cortenhq/corten/internal/errs"
)

// seen is what state and list print, in runc's form.
type seen struct {
	Version     string            `json:"ociVersion"`
	ID          string            `json:"id"`
	PID         int               `json:"pid"`
	Status      record.Status     `json:"status"`
	Bundle      string            `json:"bundle"`
	Rootfs      string            `json:"rootfs"`
	Created     time.Time         `json:"created"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Owner       string            `json:"owner"`
}

func look(root, id string) (seen, error) {
	_, s, status, err := life.Find(root, id)
	if err != nil {
		return seen{}, err
	}
	x := seen{s.Version, s.ID, s.PID, status, s.Bundle, s.Rootfs, s.Created, s.Annotations, ""}
	if status == record.Stopped || status == record.Creating {
		x.PID = 0
	}
	return x, nil
}

func state(c *command, _ *pflag.FlagSet, args []string) error {
	x, err := look(c.root, args[0])
	if err != nil {
		return err
	}
	return c.printJSON(x)
}

func listFlags(f *pflag.FlagSet) {
	f.StringP("format", "f", "table", "table or json")
	f.BoolP("quiet", "q", false, "ids alone")
}

func list(c *command, f *pflag.FlagSet, _ []string) error {
	places, err := record.List(c.root)
	if err != nil {
		return err
	}
	all := []seen{}
	for _, p := range places {
		x, err := look(c.root, p.ID)
		if errs.Is(err, errs.NotFound) { // deleted just now
			continue
		}
		if err != nil {
			c.warn(err.Error())
			continue
		}
		x.Owner = owner(p.Dir())
		all = append(all, x)
	}
	if quiet, _ := f.GetBool("quiet"); quiet {
		for _, x := range all {
			fmt.Fprintln(c.stdout, x.ID)
		}
		return nil
	}
	switch format, _ := f.GetString("format"); format {
	case "json":
		return c.printJSON(all)
	case "table":
		w := tabwriter.NewWriter(c.stdout, 12, 1, 3, ' ', 0)
		fmt.Fprint(w, "ID\tPID\tSTATUS\tBUNDLE\tCREATED\tOWNER\n")
		for _, x := range all {
			fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", x.ID, x.PID, x.Status, x.Bundle, x.Created.Format(time.RFC3339Nano), x.Owner)
		}
		return w.Flush()
	default:
		return noFormat(format)
	}
}

func noFormat(name string) error {
	return errs.Newf(errs.Invalid, "use --format", name, "there is none of this name").WithHint("table or json")
}

// owner is who made a folder.
func owner(dir string) string {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil {
		return ""
	}
	uid := strconv.FormatUint(uint64(st.Uid), 10)
	if u, err := user.LookupId(uid); err == nil {
		return u.Username
	}
	return "#" + uid
}

func ps(c *command, f *pflag.FlagSet, args []string) error {
	pids, err := life.Procs(c.root, args[0])
	if err != nil {
		return err
	}
	switch format, _ := f.GetString("format"); format {
	case "json":
		if pids == nil {
			pids = []int{}
		}
		return json.NewEncoder(c.stdout).Encode(pids)
	case "table":
		return c.psTable(pids, args[1:])
	default:
		return noFormat(format)
	}
}

// psTable has ps(1) list all processes, and prints those of the container.
func (c *command) psTable(pids []int, flags []string) error {
	if len(flags) == 0 {
		flags = []string{"-ef"}
	}
	cmd := exec.Command("ps", flags...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return errs.Wrap("run ps", strings.Join(flags, " "), err)
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	at := slices.Index(strings.Fields(lines[0]), "PID")
	if at < 0 {
		return errs.Newf(errs.Invalid, "run ps", strings.Join(flags, " "), "what it prints has no column PID").WithHint("ask for it")
	}
	fmt.Fprintln(c.stdout, lines[0])
	for _, line := range lines[1:] {
		words := strings.Fields(line)
		if len(words) <= at {
			continue
		}
		if pid, err := strconv.Atoi(words[at]); err == nil && slices.Contains(pids, pid) {
			fmt.Fprintln(c.stdout, line)
		}
	}
	return nil
}
