package connect

import (
	"encoding/json"
	"io"
	"os"

	"github.com/cortenhq/corten/internal/advice"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wire"
)

// Move moves interfaces of the host into a namespace that is open: those of a list of spec.NetDevice, as
// JSON. It answers with an errs.Parts as JSON if it could not.
func Move(ns *os.File, list io.Reader, answer io.Writer) error {
	err := move(ns, list)
	if err != nil {
		b, _ := json.Marshal(errs.PartsOf(advice.Add(err)))
		_, _ = answer.Write(b)
	}
	return err
}

func move(ns *os.File, list io.Reader) error {
	var devices []spec.NetDevice
	if err := json.NewDecoder(list).Decode(&devices); err != nil {
		return errs.New(errs.Invalid, "read list of interfaces", "", err)
	}
	host, err := wire.Open("")
	if err != nil {
		return err
	}
	defer host.Close()
	in, err := host.EnterFile(ns)
	if err != nil {
		return err
	}
	defer in.Close()
	return host.Move(in, devices)
}
