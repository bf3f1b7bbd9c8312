package cgroup

import (
	"testing"

	"github.com/cortenhq/corten/internal/spec"
)

func BenchmarkDetect(b *testing.B) {
	for b.Loop() {
		if _, err := Detect(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkGroup is what a container's group costs a start and an end, without the
// process that is in it.
func BenchmarkGroup(b *testing.B) {
	host, err := Detect()
	if err != nil || host.V2.Base != "/" {
		b.Skip("needs root and cgroup v2")
	}
	v1 := host
	v1.V2 = Hierarchy{}
	memory := spec.Resources{Memory: spec.Memory{Limit: 64 << 20, Swap: 64 << 20}}
	for _, bench := range []struct {
		name    string
		host    Host
		r       spec.Resources
		account bool
	}{
		{"unlimited", host, spec.Resources{}, false},
		{"accounted", host, spec.Resources{}, true},
		{"memory", host, memory, true},
		{"filtered", host, spec.Resources{Devices: DefaultDevices()}, false},
		{"v1/unlimited", v1, spec.Resources{}, false},
		{"v1/filtered", v1, spec.Resources{Devices: DefaultDevices()}, false},
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
