package resolve

import "golang.org/x/sys/unix"

// memory is all that messages are kept in. It is outside of Go's heap, and only what is used of it
// is there.
type memory struct {
	all     []byte
	in, out []byte
	dirty   bool
}

const (
	page       = 4096
	maxMessage = 1<<16 - 1
	bufferSize = 1 << 16
	slotSize   = largest           // a question that came as a datagram
	sideSize   = bufferSize + page // a message with its length before it
	slotsAt    = 2 * bufferSize
	sidesAt    = slotsAt + maxAsked*slotSize
	memorySize = sidesAt + 2*maxConns*sideSize
)

func newMemory() (m memory, err error) {
	m.all, err = unix.Mmap(-1, 0, memorySize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return m, err
	}
	_ = unix.Madvise(m.all, unix.MADV_NOHUGEPAGE) // a question would cost 2 MiB
	m.in, m.out = m.all[:bufferSize:bufferSize], m.all[bufferSize:slotsAt:slotsAt]
	return m, nil
}

// slot is for a question that came as a datagram.
func (m *memory) slot(i int) []byte {
	at := slotsAt + i*slotSize
	return m.all[at : at+slotSize : at+slotSize]
}

// question and answer are for the two messages of a connection.
func (m *memory) question(i int) []byte { return m.side(2 * i) }
func (m *memory) answer(i int) []byte   { return m.side(2*i + 1) }

func (m *memory) side(i int) []byte {
	at := sidesAt + i*sideSize
	return m.all[at : at+sideSize : at+sideSize]
}

// release gives back what was used.
func (m *memory) release() {
	if m.dirty {
		_ = unix.Madvise(m.all, unix.MADV_DONTNEED)
		m.dirty = false
	}
}
