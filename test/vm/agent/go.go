package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/cortenhq/corten/test/vm/protocol"
)

// askGo is the guest's go: what tests want of it is done by the host's, in the same folder of the same
// tree, and what is built comes back. So tests that build programs need no compiler in the guest.
func askGo(args []string) int {
	status, err := relay(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "go of the host:", err)
		return 1
	}
	return status.Code
}

func relay(args []string) (protocol.Status, error) {
	var status protocol.Status
	conn, err := net.Dial("tcp4", protocol.Gate)
	if err != nil {
		return status, err
	}
	defer conn.Close()
	dir, err := os.Getwd()
	if err != nil {
		return status, err
	}
	req := protocol.Request{Args: args, Dir: dir}
	for _, e := range os.Environ() {
		if strings.HasPrefix(e, "GO") || strings.HasPrefix(e, "CGO_") {
			req.Env = append(req.Env, e)
		}
	}
	if err := protocol.WriteJSON(conn, protocol.KindRequest, req); err != nil {
		return status, err
	}
	var files bytes.Buffer
	for {
		kind, body, err := protocol.Read(conn)
		if err != nil {
			return status, err
		}
		switch kind {
		case protocol.KindStdout:
			_, err = os.Stdout.Write(body)
		case protocol.KindStderr:
			_, err = os.Stderr.Write(body)
		case protocol.KindFiles:
			_, err = files.Write(body)
		case protocol.KindStatus:
			if err := json.Unmarshal(body, &status); err != nil || status != (protocol.Status{}) {
				return status, err
			}
			return status, unpack(&files, args)
		}
		if err != nil {
			return status, err
		}
	}
}

// unpack puts what was built where -o says.
func unpack(files *bytes.Buffer, args []string) error {
	to, dir := protocol.Output(args)
	if to == "" {
		return nil
	}
	if !dir {
		to = filepath.Dir(to)
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	tar := exec.Command("tar", "-x", "-C", to)
	tar.Stdin = files
	if out, err := tar.CombinedOutput(); err != nil {
		return fmt.Errorf("tar: %w: %s", err, out)
	}
	return nil
}
