package look

import (
	"testing"
	"time"

	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/spec"
)

func TestStatsLine(t *testing.T) {
	var c engine.Container
	c.Spec = &spec.Container{ID: "0123456789abcdef", Name: "web"}
	at := time.Now()
	before := engine.ContainerUsage{At: at, CPU: time.Second}
	now := engine.ContainerUsage{At: at.Add(2 * time.Second), CPU: 4 * time.Second, Memory: 3 << 19, Limit: 64 << 20,
		Received: 1500, Sent: 20, Read: 2e6, Pids: 7}
	want := statsLine{"2MB / 0B", "150.00%", "0123456789ab", "0123456789ab", "2.34%", "1.5MiB / 64MiB", "web", "1.5kB / 20B", "-", "7"}
	if got := (&stats{}).line(c, before, now); got != want {
		t.Errorf("%+v", got)
	}
	now.CPU = 0 // it was started anew
	if got := (&stats{noTrunc: true}).line(c, before, now); got.CPUPerc != "0.00%" || got.ID != "0123456789abcdef" {
		t.Errorf("%+v", got)
	}
	if got := (&stats{}).line(c, engine.ContainerUsage{}, engine.ContainerUsage{}); got.CPUPerc != "0.00%" || got.MemPerc != "0.00%" {
		t.Errorf("%+v", got)
	}
	c.Spec.Networking = spec.Networking{Attachments: []spec.Attachment{{Network: "a"}, {Network: "b", Rate: spec.Rate{Out: 64e3}}, {Network: "c"}}, Rate: spec.Rate{In: 10e6}}
	if got := rates(c.Spec); got != "10mbit / -, - / 64kbit" {
		t.Error(got)
	}
}
