package life

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strconv"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/programs"
	"github.com/cortenhq/corten/internal/spec"
)

// moveDevices has corten-net move interfaces of the host into the network namespace of a process: this
// program links no netlink.
func moveDevices(list []spec.NetDevice) func(pid int) error {
	return func(pid int) error {
		text, err := json.Marshal(list)
		if err != nil {
			return errs.New(errs.Internal, "", "", err)
		}
		program, err := programs.Find("corten-net")
		if err != nil {
			return err
		}
		ns, err := os.Open("/proc/" + strconv.Itoa(pid) + "/ns/net")
		if err != nil {
			return err
		}
		defer ns.Close()
		var answer bytes.Buffer
		cmd := exec.Command(program, "move")
		cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles, cmd.Env = bytes.NewReader(text), &answer, os.Stderr, []*os.File{ns}, []string{}
		err = cmd.Run()
		var p errs.Parts
		if err != nil && json.Unmarshal(answer.Bytes(), &p) == nil {
			return p.Whole()
		}
		return errs.Wrap("run", program, err)
	}
}
