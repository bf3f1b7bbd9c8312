package cgroup

import (
	"testing"

	"github.com/cortenhq/corten/internal/spec"
)

func BenchmarkDetect(b *testing.B) {
	for b.Loop() {
		Detect()
	}
}

// BenchmarkGroup is what a container's group costs a start and an end, without the
// process that is in it.
func BenchmarkGroup(b *testing.B) {
	host := Detect()
	if host.V2.Base != "/" {
		b.Skip("needs root and cgroup v2")
	}
	v1 := host
	v1.V2 = Hierarchy{}
	memory := spec.Resources{Memory: spec.Memory{Limit: 64 << 20, Swap: 64 << 20}, Devices: DefaultDevices()}
	for _, bench := range []struct {
		name    string
		host    Host
		r       spec.Resources
		account bool
	}{
		{"unfiltered", host, spec.Resources{}, false},
		{"default", host, spec.Resources{Devices: DefaultDevices()}, false},
		{"counted", host, spec.Resources{Devices: DefaultDevices()}, true},
		{"limited", host, memory, true},
		{"v1/unfiltered", v1, spec.Resources{}, false},
		{"v1/default", v1, spec.Resources{Devices: DefaultDevices()}, false},
	} {
		b.Run(bench.name, func(b *testing.B) {
			for b.Loop() {
				p, err := New(bench.host, Request{Resources: bench.r, Parent: testParent, ID: "bench", Account: bench.account})
				if err != nil {
					b.Skip(err)
				}
				if err := p.Make(); err != nil {
					b.Fatal(err)
				}
				if err := p.Group.Remove(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
