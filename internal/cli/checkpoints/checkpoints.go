// Package checkpoints holds the verbs that write the processes of containers to files and make them again. Their flags are
// podman's.
package checkpoints

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/declare"
	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
)

// Take is the verb checkpoint.
func Take(sh *shell.Shell) *cobra.Command {
	req, file, compression := engine.CheckpointRequest{}, "", ""
	cmd := &cobra.Command{
		Use: "checkpoint [flags] CONTAINER",
		Long: `Write the processes of a container that runs to files, with criu, and end it; corten restore makes it
go on from there. What is in its memory, its open files, its sockets among themselves and what is in its
memory file systems is written.

The checkpoint stays with the container until it is restored or started again. With --export it goes to an archive
with all that the container changed of its image, for corten restore --import, on another machine as well;
volumes are not part of it. Who reads an archive reads the memory of the container: keep it as a secret.

With --pre-checkpoint only memory is written, and the container goes on; a checkpoint --with-previous then
writes what has changed since, and the container stands still for a shorter time.`,
		Example: "  corten checkpoint web && corten restore web\n  corten checkpoint -R -e web.tar.zst web\n  corten checkpoint -P web && corten checkpoint --with-previous web",
		Args:    declare.Args(1, 1),
	}
	fs, o := cmd.Flags(), &req.Options
	fs.StringVarP(&file, "export", "e", "", "Write an archive to `FILE`, .tar, .tar.gz or .tar.zst")
	fs.StringVarP(&compression, "compress", "c", "", "Compress it by gzip, zstd or none (default: as its name says, else zstd)")
	fs.BoolVarP(&req.Keep, "keep", "k", false, "With --export, have the checkpoint stay with the container, too")
	fs.BoolVarP(&o.LeaveRunning, "leave-running", "R", false, "Let the container go on")
	fs.BoolVarP(&o.Pre, "pre-checkpoint", "P", false, "Write memory alone, and let the container go on")
	fs.BoolVar(&o.Previous, "with-previous", false, "Leave out what the last --pre-checkpoint has")
	fs.BoolVar(&o.TCP, "tcp-established", false, "Write open TCP connections, of processes in the container with one another")
	fs.BoolVar(&o.FileLocks, "file-locks", false, "Write locks of files")
	fs.BoolVar(&req.IgnoreVolumes, "ignore-volumes", false, "With --export, do without what is in volumes")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if o.Pre && (file != "" || o.Previous) {
			return errs.Newf(errs.Invalid, "use --pre-checkpoint", "", "it goes with neither --export nor --with-previous").
				WithHint("the archive of the checkpoint --with-previous has both")
		}
		return sh.Interruptible(cmd.Context(), func(ctx context.Context) error {
			eng, err := sh.Engine()
			if err != nil {
				return err
			}
			_ = eng.Tidy()
			if file == "" {
				err = eng.Checkpoint(ctx, args[0], req)
			} else {
				err = export(ctx, eng, args[0], req, file, compression)
			}
			if err == nil {
				_, err = fmt.Fprintln(sh.Stdout, args[0])
			}
			return err
		})
	}
	return cmd
}

// export has an archive appear whole, or not at all.
func export(ctx context.Context, eng *engine.Engine, ref string, req engine.CheckpointRequest, file, compression string) error {
	compress, err := compressor(file, compression)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-")
	if err != nil {
		return errs.Wrap("write archive", file, err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	buf := bufio.NewWriterSize(f, 1<<20)
	w, err := compress(buf)
	if err != nil {
		return errs.Wrap("write archive", file, err)
	}
	req.Export = w
	req.Exported = func() error {
		if err := errors.Join(w.Close(), buf.Flush(), f.Sync()); err != nil {
			return errs.Wrap("write archive", file, err)
		}
		return errs.Wrap("write archive", file, os.Rename(f.Name(), file))
	}
	return eng.Checkpoint(ctx, ref, req)
}

type plain struct{ io.Writer }

func (plain) Close() error { return nil }

// compressor says how an archive is compressed.
func compressor(file, name string) (func(io.Writer) (io.WriteCloser, error), error) {
	if name == "" {
		switch {
		case strings.HasSuffix(file, ".gz"), strings.HasSuffix(file, ".tgz"):
			name = "gzip"
		case strings.HasSuffix(file, ".tar"):
			name = "none"
		default:
			name = "zstd"
		}
	}
	switch name {
	case "gzip":
		return func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriterLevel(w, gzip.BestSpeed) }, nil
	case "zstd":
		return func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) }, nil
	case "none":
		return func(w io.Writer) (io.WriteCloser, error) { return plain{w}, nil }, nil
	}
	return nil, errs.Newf(errs.Invalid, "use --compress", name, "there is none of this name").WithHint("gzip, zstd or none")
}

// Restore is the verb restore.
func Restore(sh *shell.Shell) *cobra.Command {
	req, file := engine.ResumeRequest{}, ""
	cmd := &cobra.Command{
		Use: "restore [flags] CONTAINER | restore --import FILE [flags]",
		Long: `Make a container go on from its checkpoint, or make one of an archive of corten checkpoint --export.

It has a keeper again: its log goes on, and exec, attach, stop, health checks and its restart policy are as if it had been
started. It may get another address than it had.

An archive is as good as who wrote it: its processes are made by criu as root, and looked at before they run. A container that
wants more of this host than it would have by default is refused unless --trust is given.`,
		Example: "  corten restore web\n  corten restore -i web.tar.zst -n web2",
		Args:    declare.Args(0, 1),
	}
	fs, o := cmd.Flags(), &req.Options
	fs.StringVarP(&file, "import", "i", "", "Make a new container of the archive `FILE`; - is standard input")
	fs.StringVarP(&req.Name, "name", "n", "", "With --import, call it `NAME`")
	fs.BoolVarP(&o.Keep, "keep", "k", false, "Have the checkpoint stay, to be restored again")
	fs.BoolVar(&o.TCP, "tcp-established", false, "Restore open TCP connections")
	fs.BoolVar(&o.FileLocks, "file-locks", false, "Restore locks of files")
	fs.BoolVar(&req.AnyIP, "ignore-static-ip", false, "With --import, take any address instead of those that it was given")
	fs.BoolVar(&req.AnyMAC, "ignore-static-mac", false, "With --import, take any hardware address instead of those that it was given")
	fs.BoolVar(&req.Trust, "trust", false, "With --import, give it what it wants of this host")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if (file == "") == (len(args) == 0) {
			return errs.Newf(errs.Invalid, "restore", "", "one of a container and --import is wanted").WithHint("corten restore NAME, or corten restore --import FILE --name NEW")
		}
		if file == "" && (req.Name != "" || req.AnyIP || req.AnyMAC || req.Trust) {
			return errs.Newf(errs.Invalid, "restore", args[0], "--name, --ignore-static-ip, --ignore-static-mac and --trust are for --import").WithHint("corten rename gives it another name")
		}
		return sh.Interruptible(cmd.Context(), func(ctx context.Context) error {
			eng, err := sh.Engine()
			if err != nil {
				return err
			}
			_ = eng.Tidy()
			said := ""
			if file == "" {
				said, err = args[0], eng.Restore(ctx, args[0], req.Options)
			} else {
				said, err = restoreFrom(ctx, sh, eng, req, file)
			}
			if err == nil {
				_, err = fmt.Fprintln(sh.Stdout, said)
			}
			return err
		})
	}
	return cmd
}

// restoreFrom reads an archive, which says by its first bytes how it is compressed.
func restoreFrom(ctx context.Context, sh *shell.Shell, eng *engine.Engine, req engine.ResumeRequest, file string) (string, error) {
	in := sh.Stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", errs.Wrap("open archive", file, err)
		}
		defer f.Close()
		in = f
	}
	buf := bufio.NewReaderSize(in, 1<<20)
	head, _ := buf.Peek(4)
	req.Archive = buf
	switch {
	case len(head) == 4 && string(head) == "\x28\xb5\x2f\xfd":
		z, err := zstd.NewReader(buf, zstd.WithDecoderMaxMemory(1<<30))
		if err != nil {
			return "", errs.Wrap("read archive", file, err)
		}
		defer z.Close()
		req.Archive = z
	case len(head) == 4 && string(head[:2]) == "\x1f\x8b":
		z, err := gzip.NewReader(buf)
		if err != nil {
			return "", errs.New(errs.Corrupt, "read archive", file, err)
		}
		req.Archive = z
	}
	id, err := eng.ImportCheckpoint(ctx, req)
	return string(id), errs.Wrap("restore from", file, err)
}
