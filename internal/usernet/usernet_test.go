package usernet

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wiring"
)

func TestPorts(t *testing.T) {
	addr := netip.MustParseAddr
	with := func(d wiring.Driver) *Plug {
		return &Plug{Doc: &wiring.Document{Links: []wiring.Link{{Driver: d}}}}
	}
	if got := with(Slirp).forwards([]spec.Port{{Service: spec.Service{Protocol: spec.TCP, Port: 80}, HostPort: 8080}}); len(got) != 1 || !got[0].HostIP.Is4() {
		t.Errorf("slirp4netns publishes %v", got)
	}
	list := with(Pasta).forwards([]spec.Port{
		{Service: spec.Service{Protocol: spec.TCP, Port: 80}, HostPort: 8080},
		{Service: spec.Service{Protocol: spec.TCP, Port: 80}, HostPort: 8081, HostIP: addr("127.0.0.1")},
		{Service: spec.Service{Protocol: spec.TCP, Port: 81}, HostPort: 8082, HostIP: addr("::1")},
		{Service: spec.Service{Protocol: spec.TCP, Port: 82}, HostPort: 8083, HostIP: addr("0.0.0.0")},
		{Service: spec.Service{Protocol: spec.UDP, Port: 53}, HostPort: 5353},
	})
	if got, want := pastaPorts(list, spec.TCP), []string{"8080:80", "127.0.0.1/8081:80", "::1/8082:81", "0.0.0.0/8083:82"}; !slices.Equal(got, want) {
		t.Errorf("tcp %v, want %v", got, want)
	}
	if got, want := pastaPorts(list, spec.UDP), []string{"5353:53"}; !slices.Equal(got, want) {
		t.Errorf("udp %v, want %v", got, want)
	}
}

func TestRefused(t *testing.T) {
	on := func(a ...spec.Attachment) spec.Networking { return spec.Networking{Attachments: a} }
	sctp := on(spec.Attachment{Network: spec.DefaultNetwork})
	sctp.Ports = []spec.Port{{Service: spec.Service{Protocol: spec.SCTP, Port: 1}}}
	for name, n := range map[string]spec.Networking{
		"network": on(spec.Attachment{Network: "blue"}),
		"two":     on(spec.Attachment{Network: spec.DefaultNetwork}, spec.Attachment{Network: "pasta"}),
		"address": on(spec.Attachment{Network: "pasta", IP4: netip.MustParseAddr("10.0.0.1")}),
		"rate":    on(spec.Attachment{Network: "pasta", Rate: spec.Rate{In: 1}}),
		"sctp":    sctp,
	} {
		if err := refuse(n); !errs.Is(err, errs.Unsupported) || errs.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := refuse(on(spec.Attachment{Network: spec.DefaultNetwork})); err != nil {
		t.Error(err)
	}
}

// Down ends the program of the container, and no other one that has its number by now.
func TestDown(t *testing.T) {
	run, id := t.TempDir(), spec.ContainerID("0123456789abcdef")
	if err := os.MkdirAll(filepath.Join(run, "net/user"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, ours := range []bool{false, true} {
		name := "somebody"
		if ours {
			name = file(run, id, pidKind)
		}
		cmd := exec.Command("sh", "-c", "read x", name)
		in, err := cmd.StdinPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err == nil {
			err = os.WriteFile(file(run, id, pidKind), []byte(strconv.Itoa(cmd.Process.Pid)+"\n"), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := Down(run, id); err != nil {
				t.Error(err)
			}
		}
		in.Close()
		err = cmd.Wait()
		if killed := err != nil && err.Error() == "signal: killed"; killed != ours {
			t.Errorf("ours: %v, and it ended with %v", ours, err)
		}
	}
	if left, _ := os.ReadDir(filepath.Join(run, "net/user")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
