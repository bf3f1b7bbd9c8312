package runflags

import (
	"math"
	"strings"

	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/spec"
)

// logs is what is kept of the container's output.
type logs struct {
	driver  string
	options []string
}

const logHint = "the options are max-size=SIZE, max-file=NUMBER, compress=BOOL, mode=blocking|non-blocking and max-buffer-size=SIZE"

func (f *logs) bind(g group) {
	g.text(&f.driver, "log-driver", "", "Keep the output as `FORMAT` says: cri, the format of Kubernetes, or none (default cri)")
	g.list(&f.options, "log-opt", "", "Set `NAME=VALUE`: max-size (default 16m) of a file, max-file (5), compress (true), "+
		"mode (blocking) or non-blocking, max-buffer-size (1m) of the latter (repeatable)")
}

func (f *logs) fill(c *spec.Container) error {
	const hint = "leave it out: corten logs reads the log, which is a file in the CRI format"
	switch f.driver {
	case "", "cri", "k8s-file": // Podman's name of the same format
	case "none":
		if len(f.options) > 0 {
			return values.Conflict("--log-driver none", "--log-opt", "there is no log")
		}
		c.Life.Log.Off = true
	case "json-file", "local", "journald", "syslog", "gelf", "fluentd", "awslogs", "splunk", "gcplogs", "etwlogs", "passthrough":
		return values.NotBuilt("--log-driver "+f.driver, hint)
	default:
		return values.Bad("log-driver", f.driver, "no such format", "write cri or none")
	}
	for _, s := range f.options {
		if err := logOption(&c.Life.Log, s); err != nil {
			return err
		}
	}
	l := c.Life.Log
	if l.Buffer != 0 && !l.NonBlocking {
		return values.Conflict("--log-opt max-buffer-size", "mode=blocking", "only non-blocking has a buffer")
	}
	if l.MaxSize < 0 && l.MaxFiles > 1 {
		return values.Conflict("--log-opt max-size=-1", "max-file", "a file without a limit is never followed by another")
	}
	return nil
}

func logOption(l *spec.Log, s string) error {
	name, value, ok := strings.Cut(s, "=")
	if !ok || value == "" {
		return values.Bad("log-opt", s, "no value", logHint)
	}
	var err error
	switch name {
	case "max-size":
		if value == "-1" {
			l.MaxSize = -1
			return nil
		}
		l.MaxSize, err = logSize(s, value)
	case "max-buffer-size":
		l.Buffer, err = logSize(s, value)
	case "max-file":
		var n int64
		n, err = values.Int("log-opt max-file", value, 1, math.MaxInt32)
		l.MaxFiles = int(n)
	case "compress":
		on, ok := values.Bool(value, true)
		if !ok {
			return values.Bad("log-opt", s, "neither true nor false", "write compress=true or compress=false")
		}
		l.Uncompressed = !on
	case "mode":
		if value != "blocking" && value != "non-blocking" {
			return values.Bad("log-opt", s, "no such mode", "write mode=blocking, or mode=non-blocking to lose lines rather than wait")
		}
		l.NonBlocking = value == "non-blocking"
	case "tag", "labels", "labels-regex", "env", "env-regex", "path":
		return values.NotBuilt("--log-opt "+name, logHint)
	default:
		return values.Bad("log-opt", s, "no such option", logHint)
	}
	return err
}

func logSize(option, value string) (int64, error) {
	n, ok := spec.ParseSize(value)
	if !ok || n <= 0 {
		return 0, values.Bad("log-opt", option, "not a size", values.SizeHint)
	}
	return n, nil
}
