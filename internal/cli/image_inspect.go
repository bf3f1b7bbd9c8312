package cli

import (
	"encoding/json"
	"errors"

	"github.com/spf13/cobra"
)

func newImageInspect(a *app) *cobra.Command {
	format, platform := "", ""
	cmd := &cobra.Command{
		Use:               "inspect [flags] IMAGE...",
		Args:              wantArgs(1, -1),
		ValidArgsFunction: a.completeImages(-1),
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "Print as `FORMAT`: json, or a Go template such as {{.Config.Env}}")
	cmd.Flags().StringVar(&platform, "platform", "", "Show the image for `OS/ARCH[/VARIANT]` (default this machine's)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		eng, err := a.engine()
		if err != nil {
			return err
		}
		var (
			found []any
			all   []error
		)
		for _, name := range args {
			d, err := eng.InspectImage(cmd.Context(), name, platform)
			if err != nil {
				all = append(all, err)
				continue
			}
			found = append(found, d)
		}
		if format != "" {
			err = a.format(format, found...)
		} else {
			err = a.printJSON(found)
		}
		return a.sayButLast(errors.Join(append(all, err)...))
	}
	return cmd
}

// printJSON prints a list for people.
func (a *app) printJSON(list []any) error {
	if list == nil {
		list = []any{}
	}
	enc := json.NewEncoder(a.env.Stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "    ")
	return enc.Encode(list)
}

// sayButLast says all of several errors but the last one, which is left to be returned.
func (a *app) sayButLast(err error) error {
	several, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	list := several.Unwrap()
	for _, e := range list[:len(list)-1] {
		a.sayError(e)
	}
	return list[len(list)-1]
}
