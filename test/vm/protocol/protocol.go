// Package protocol is what hosts and the agent in a virtual machine say to each other: one
// connection for each command, which begins with an empty frame of the agent and a Request of the
// host, and goes on in frames until a Status. Who closes the connection before that kills the command.
package protocol

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

// Address is where the agent listens: that of the machine's only interface.
const Address = "10.0.2.15:1"

// Gate is where the guest's go asks the host's: in the other direction, a Request of the guest is
// answered with frames until a Status.
const Gate = "10.0.2.100:1"

// Kind is what a frame holds.
type Kind byte

// The kinds of frames, in the order in which they come. Empty standard input is its end.
const (
	KindHello Kind = iota
	KindRequest
	KindStdin
	KindSignal // a number, as one byte
	KindStdout
	KindStderr
	KindStatus
	KindFiles // a tar, of what the host's go has built
)

// Request is a command to execute.
type Request struct {
	Args []string
	Env  []string // besides the agent's own
	Dir  string
	Rows uint16 // of a terminal, if it is to have one
	Cols uint16
	Term bool
}

// Status is how a command ended.
type Status struct {
	Code   int    // what it exited with
	Signal int    // what it died of
	Error  string // why it was not executed
}

// maxFrame is far more than anybody sends at once, in bytes.
const maxFrame = 1 << 20

// Write sends one frame, in one write.
func Write(w io.Writer, kind Kind, body []byte) error {
	b := make([]byte, 5, 5+len(body))
	b[0] = byte(kind)
	binary.BigEndian.PutUint32(b[1:], uint32(len(body)))
	_, err := w.Write(append(b, body...))
	return err
}

// WriteJSON sends a value as one frame.
func WriteJSON(w io.Writer, kind Kind, value any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return Write(w, kind, body)
}

// Read receives one frame.
func Read(r io.Reader) (Kind, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxFrame {
		return 0, nil, fmt.Errorf("a frame of %d bytes", n)
	}
	body := make([]byte, n)
	_, err := io.ReadFull(r, body)
	return Kind(head[0]), body, err
}

// ReadJSON receives one frame of the kind, which has to be the next.
func ReadJSON(r io.Reader, want Kind, value any) error {
	kind, body, err := Read(r)
	if err != nil {
		return err
	}
	if kind != want {
		return fmt.Errorf("a frame of kind %d instead of %d", kind, want)
	}
	return json.Unmarshal(body, value)
}

// Output is where arguments of go say that programs go to, and whether that is a folder in any case.
func Output(args []string) (path string, dir bool) {
	for i, a := range args {
		if a == "-o" && i+1 < len(args) {
			return args[i+1], args[i+1][len(args[i+1])-1] == '/'
		}
	}
	return "", false
}
