package shell

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"text/tabwriter"

	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/programs"
)

// Format prints values as a user's --format says: "json", one value a line, or a Go template
// that is executed for each value. A template sees a value as its JSON has it: {{.Os}} is
// the member "Os".
//
// Templates are the business of corten-format. Package text/template calls methods by name,
// so a binary that links it keeps every method of every type: 2 MB that each start of corten
// would pay for.
func (s *Shell) Format(format string, values ...any) error {
	return formatTo(s.Stdout, format, values...)
}

// FormatTable is Format for lists, which can also be "table TEMPLATE": then the columns,
// which tabs separate, are aligned below the names that heads has for the values' members.
func (s *Shell) FormatTable(format string, heads any, values ...any) error {
	format = strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(format) // as Docker reads them
	columns, table := strings.CutPrefix(format, "table ")
	if !table {
		return s.Format(format, values...)
	}
	w := NewTable(s.Stdout)
	if err := formatTo(w, columns, append([]any{heads}, values...)...); err != nil {
		return err
	}
	return w.Flush()
}

// NewTable aligns columns that tabs separate, as Docker does.
func NewTable(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 10, 1, 3, ' ', 0) }

// Inspect finds what each name stands for and prints all that was found.
func (s *Shell) Inspect(names []string, format string, find func(eng *engine.Engine, name string) (any, error)) error {
	eng, err := s.Engine()
	if err != nil {
		return err
	}
	var (
		found []any
		all   []error
	)
	for _, name := range names {
		d, err := find(eng, name)
		if err != nil {
			all = append(all, err)
			continue
		}
		found = append(found, d)
	}
	return s.SayButLast(errors.Join(append(all, s.printFound(format, found))...))
}

// printFound prints what an inspect has found: a list for people, or as format says.
func (s *Shell) printFound(format string, found []any) error {
	if format != "" {
		return s.Format(format, found...)
	}
	return s.PrintJSON(found)
}

// PrintJSON prints a list for people.
func (s *Shell) PrintJSON(list []any) error {
	if list == nil {
		list = []any{}
	}
	enc := json.NewEncoder(s.Stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "    ")
	return enc.Encode(list)
}

func formatTo(w io.Writer, format string, values ...any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	for _, v := range values {
		if err := enc.Encode(v); err != nil {
			return errs.New(errs.Internal, "write as JSON", "", err)
		}
	}
	if format == "json" {
		_, err := w.Write(b.Bytes())
		return err
	}
	tool, err := programs.Find("corten-format")
	if err != nil {
		return err
	}
	cmd := exec.Command(tool, format)
	cmd.Stdin, cmd.Stdout = &b, w
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		return badFormat(said.String(), err)
	}
	return nil
}

// badFormat is what corten-format said of a template, or else how it ended.
func badFormat(said string, err error) error {
	if said != "" {
		err = errors.New(strings.TrimSpace(said))
	}
	return Misused(errs.New(errs.Invalid, "", "--format", err).WithHint("write json, or a Go template such as {{.Name}}; --format json shows the names"))
}
