package wiring

import (
	"hash/fnv"
	"slices"
	"strconv"
)

// Loop is a pair of interfaces of the host: what is put into Out comes in again by In. What the host's own
// rules have let in for a published port that respects them goes this way, once for each connection, and is
// led to the container when it comes in again. On its way it has the Mark, which is of 16 bits.
type Loop struct {
	Out, In string
	Mark    uint32
}

// LoopOf is that of the containers whose run folder is run.
func LoopOf(run string) Loop {
	if run == "/run/corten" {
		return Loop{"corten-out", "corten-in", 0x10c7}
	}
	n := sum(run)
	name := "ct-" + strconv.FormatUint(uint64(n), 16)
	return Loop{name + "-out", name + "-in", 0x1000 | n&0xfff}
}

// sum is different for different run folders, as a rule.
func sum(run string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(run))
	return h.Sum32()
}

// LoopGateway4 and LoopGateway6 are whom packets are sent to on the loop: there is nobody, and its
// interfaces ask nobody for hardware addresses. The first is the dummy address of RFC 7600.
const (
	LoopGateway4 = "192.0.0.8"
	LoopGateway6 = "fe80::10c7"
)

// Respects reports whether a port that one of the documents publishes respects the host's rules.
func Respects(documents []*Document) bool {
	return slices.ContainsFunc(documents, func(d *Document) bool {
		return slices.ContainsFunc(d.Ports, func(f Forward) bool { return f.Respect })
	})
}

// Secluded reports whether one of the container's networks has no way out.
func (d *Document) Secluded() bool {
	return slices.ContainsFunc(d.Links, func(l Link) bool { return l.Switch != nil && l.Switch.Internal })
}
