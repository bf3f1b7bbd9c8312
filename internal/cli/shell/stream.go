package shell

import (
	"encoding/json"
	"io"
	"os/exec"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/programs"
)

// Stream prints values as Format does, each when it comes.
type Stream struct {
	enc  *json.Encoder
	tool *exec.Cmd // nil for json
	in   io.Closer // of the tool
	said strings.Builder
}

// Stream begins to print in a format: json, or a Go template. Close ends it.
func (s *Shell) Stream(format string) (*Stream, error) {
	x := &Stream{}
	to := io.Writer(s.Stdout)
	if format != "json" {
		path, err := programs.Find("corten-format")
		if err != nil {
			return nil, err
		}
		x.tool = exec.Command(path, format)
		x.tool.Stdout, x.tool.Stderr = s.Stdout, &x.said
		in, err := x.tool.StdinPipe()
		if err == nil {
			err = x.tool.Start()
		}
		if err != nil {
			return nil, errs.Wrap("start", path, err)
		}
		to, x.in = in, in
	}
	x.enc = json.NewEncoder(to)
	x.enc.SetEscapeHTML(false)
	return x, nil
}

// Print prints one value.
func (x *Stream) Print(v any) error {
	err := x.enc.Encode(v)
	if err != nil && x.tool != nil {
		if cerr := x.Close(); cerr != nil {
			return cerr // why it does not listen any more
		}
	}
	return errs.Wrap("print", "", err)
}

// Close ends it, when all is printed. A second Close does nothing.
func (x *Stream) Close() error {
	if x.tool == nil {
		return nil
	}
	_ = x.in.Close()
	err := x.tool.Wait()
	x.tool = nil
	if err == nil {
		return nil
	}
	return badFormat(x.said.String(), err)
}
