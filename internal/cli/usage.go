package cli

import (
	"errors"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/cortenhq/corten/internal/cli/refused"
	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/errs"
)

// flagError says in our words what pflag found wrong with the flags of the command at path.
func flagError(path string, set *pflag.FlagSet, err error) error {
	var (
		unknown *pflag.NotExistError
		missing *pflag.ValueRequiredError
		invalid *pflag.InvalidValueError
	)
	say := func(what, why, hint string) error {
		if hint == "" {
			hint = path + " --help lists the flags"
		}
		return shell.Misused(errs.Newf(errs.Invalid, "", what, why).WithHint(hint))
	}
	switch {
	case errors.As(err, &unknown):
		return shell.Misused(unknownFlag(path, set, unknown))
	case errors.As(err, &missing):
		return say("--"+missing.GetFlag().Name, "a value is missing", "")
	case errors.As(err, &invalid):
		f := invalid.GetFlag()
		what := "--" + f.Name + " " + strconv.Quote(invalid.GetValue())
		switch f.Value.Type() {
		case "bool":
			return say(what, "neither true nor false", "write --"+f.Name+" or --"+f.Name+"=false")
		case "int":
			return say(what, "not a whole number", "")
		}
		return say(what, invalid.Unwrap().Error(), "")
	}
	return say("flags", err.Error(), "")
}

func unknownFlag(path string, set *pflag.FlagSet, e *pflag.NotExistError) error {
	name, dashes := e.GetSpecifiedName(), "--"
	if letters := e.GetSpecifiedShortnames(); letters != "" {
		name, dashes = name[:1], "-"
	}
	if strings.HasSuffix(path, " run") || strings.HasSuffix(path, " create") {
		if err := refused.Flag(name); err != nil {
			return err
		}
	}
	hint := path + " --help lists the flags"
	var names []string
	set.VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if near := nearest(name, names); near != "" && dashes == "--" {
		hint = "did you mean --" + near + "? " + hint
	}
	return errs.Newf(errs.Invalid, "", "unknown flag", dashes+name).WithHint(hint)
}
