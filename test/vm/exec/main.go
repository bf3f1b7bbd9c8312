// The command exec connects a virtual machine with the host, in both directions:
//
//	go test -exec "exec PORT"   executes test binaries in the machine whose agent has that port
//	exec go                     executes go for the machine, which is its standard input and output
//	exec dial ADDRESS           connects the machine with a server of the host
//
// Package machine has both done (GoTest).
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/cortenhq/corten/test/vm/machine"
	"github.com/cortenhq/corten/test/vm/protocol"
)

func main() {
	var err error
	switch {
	case len(os.Args) == 2 && os.Args[1] == "go":
		err = answer(os.Stdin, os.Stdout)
	case len(os.Args) == 3 && os.Args[1] == "dial":
		err = dial(os.Args[2])
	default:
		err = execute(context.Background(), os.Args[1:])
	}
	var exit *machine.ExitError
	switch {
	case errors.As(err, &exit) && exit.Reason == "" && exit.Signal == 0:
		os.Exit(exit.Code)
	case err != nil:
		fmt.Fprintln(os.Stderr, "test/vm/exec:", err)
		os.Exit(1)
	}
}

// execute copies a test binary into the guest, and executes it in the folder of the same name.
func execute(ctx context.Context, args []string) error {
	if len(args) < 2 {
		return errors.New("usage: exec PORT BINARY [ARGUMENT...]")
	}
	port, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGQUIT, syscall.SIGINT, syscall.SIGTERM)
	binary, err := os.Open(args[1])
	if err != nil {
		return err
	}
	defer binary.Close()
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	// A folder of its own: some packages have the same name.
	guest := fmt.Sprintf("/root/tests/%d/%s", os.Getpid(), filepath.Base(args[1]))
	put := machine.CommandAt(port, "sh", "-c", `mkdir -p "$(dirname "$0")" && cat >"$0" && chmod 755 "$0"`, guest)
	put.Stdin = binary
	if err := put.Run(ctx); err != nil {
		return err
	}
	cmd := machine.CommandAt(port, guest, args[2:]...)
	cmd.Dir = dir
	cmd.Env = []string{"HOME=/root", "USER=root", "LOGNAME=root", "TERM=dumb"}
	for _, e := range os.Environ() {
		if strings.HasPrefix(e, "CORTEN_") && !strings.HasPrefix(e, "CORTEN_TEST_VM=") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Stdout, cmd.Stderr, cmd.Signals = os.Stdout, os.Stderr, signals
	err = cmd.Run(ctx)
	return errors.Join(err, machine.CommandAt(port, "rm", "-rf", filepath.Dir(guest)).Run(ctx))
}

// dial copies between a server and QEMU, until both have ended what they send.
func dial(address string) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(conn, os.Stdin)
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	_, err = io.Copy(os.Stdout, conn)
	return err
}

// answer is one call of the guest's go.
func answer(in io.Reader, out io.Writer) error {
	var req protocol.Request
	if err := protocol.ReadJSON(in, protocol.KindRequest, &req); err != nil {
		return err
	}
	status, err := json.Marshal(build(req, out))
	if err != nil {
		return err
	}
	return protocol.Write(out, protocol.KindStatus, status)
}

func build(req protocol.Request, out io.Writer) protocol.Status {
	tmp, err := os.MkdirTemp("", "corten-vm-go-")
	if err != nil {
		return protocol.Status{Code: 1, Error: err.Error()}
	}
	defer os.RemoveAll(tmp)
	to, dir := protocol.Output(req.Args)
	if to != "" {
		there := tmp + "/"
		if !dir {
			there = filepath.Join(tmp, filepath.Base(to))
		}
		for i := range req.Args {
			if req.Args[i] == "-o" {
				req.Args[i+1] = there
			}
		}
	}
	cmd := exec.Command("go", req.Args...)
	cmd.Dir = req.Dir
	cmd.Env = append(os.Environ(), req.Env...)
	cmd.Stdout = frames{out, protocol.KindStdout}
	cmd.Stderr = frames{out, protocol.KindStderr}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(cmd.Stderr, err)
		return protocol.Status{Code: 1}
	}
	tar := exec.Command("tar", "-c", "--owner=0", "--group=0", "-C", tmp, ".")
	tar.Stdout = frames{out, protocol.KindFiles}
	if err := tar.Run(); err != nil {
		return protocol.Status{Code: 1, Error: err.Error()}
	}
	return protocol.Status{}
}

// frames sends what is written as frames of a kind.
type frames struct {
	w    io.Writer
	kind protocol.Kind
}

// Write sends one frame.
func (f frames) Write(b []byte) (int, error) {
	return len(b), protocol.Write(f.w, f.kind, b)
}
