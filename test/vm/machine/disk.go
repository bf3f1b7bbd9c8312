package machine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
)

// cache is a disk with a volatile write cache: a file that QEMU reads and writes through the
// protocol of network block devices (github.com/NetworkBlockDevice/nbd, doc/proto.md). Blocks stay
// in memory until the guest flushes; when the power is cut each of them is lost or not. As in a
// real disk, blocks are written by themselves, too, when there are many or one is written again.
type cache struct {
	socket string
	file   *os.File
	size   int64
	listen net.Listener
	accept sync.WaitGroup
	served sync.WaitGroup // connections, which end when QEMU does

	mu    sync.Mutex
	dirty map[int64][]byte // by number of block
}

const (
	block    = 4096     // bytes that a disk writes whole
	maxDirty = 64 << 20 // bytes, a usual cache
)

func serve(path, socket string) (*cache, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	st, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	c := &cache{socket: socket, file: file, size: st.Size(), listen: l, dirty: map[int64][]byte{}}
	c.accept.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.served.Go(func() {
				defer conn.Close()
				if c.greet(conn) == nil {
					_ = c.transmit(conn) // it ends as QEMU does
				}
			})
		}
	})
	return c, nil
}

func (c *cache) close() error {
	err := c.listen.Close()
	c.accept.Wait()
	c.served.Wait()
	return errors.Join(err, c.flush(), c.file.Close())
}

// Numbers of the protocol.
const (
	nbdMagic      = 0x4e42444d41474943
	nbdOption     = 0x49484156454f5054
	nbdReply      = 0x3e889045565a9
	nbdRequest    = 0x25609513
	nbdAnswer     = 0x67446698
	nbdOptGo      = 7
	nbdRepAck     = 1
	nbdRepInfo    = 3
	nbdRepUnknown = 1<<31 | 1
	nbdRead       = 0
	nbdWrite      = 1
	nbdDisconnect = 2
	nbdFlush      = 3
	nbdFlags      = 1 | 4 // has flags, takes flushes
)

// greet agrees on the disk with a client that says NBD_OPT_GO.
func (c *cache) greet(conn net.Conn) error {
	hello := binary.BigEndian.AppendUint64(nil, nbdMagic)
	hello = binary.BigEndian.AppendUint64(hello, nbdOption)
	hello = binary.BigEndian.AppendUint16(hello, 1|2) // fixed newstyle, no zeroes
	if _, err := conn.Write(hello); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, conn, 4); err != nil {
		return err
	}
	for {
		var head struct {
			Magic        uint64
			Option, Size uint32
		}
		if err := binary.Read(conn, binary.BigEndian, &head); err != nil {
			return err
		}
		if head.Magic != nbdOption {
			return fmt.Errorf("an option begins with %#x", head.Magic)
		}
		if _, err := io.CopyN(io.Discard, conn, int64(head.Size)); err != nil {
			return err
		}
		var answer []byte
		if head.Option == nbdOptGo {
			info := binary.BigEndian.AppendUint64([]byte{0, 0}, uint64(c.size))
			info = binary.BigEndian.AppendUint16(info, nbdFlags)
			answer = optionReply(nil, head.Option, nbdRepInfo, info)
			answer = optionReply(answer, head.Option, nbdRepAck, nil)
		} else {
			answer = optionReply(nil, head.Option, nbdRepUnknown, nil)
		}
		if _, err := conn.Write(answer); err != nil || head.Option == nbdOptGo {
			return err
		}
	}
}

func optionReply(b []byte, option, kind uint32, body []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, nbdReply)
	b = binary.BigEndian.AppendUint32(b, option)
	b = binary.BigEndian.AppendUint32(b, kind)
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
	return append(b, body...)
}

// transmit serves reads, writes and flushes, one after another.
func (c *cache) transmit(conn net.Conn) error {
	for {
		var r struct {
			Magic        uint32
			Flags, Type  uint16
			Handle, From uint64
			Length       uint32
		}
		if err := binary.Read(conn, binary.BigEndian, &r); err != nil {
			return err
		}
		if r.Magic != nbdRequest || r.Length > 64<<20 {
			return fmt.Errorf("a request that is none: %+v", r)
		}
		var data []byte
		var err error
		switch r.Type {
		case nbdRead:
			data = make([]byte, r.Length)
			err = c.read(data, int64(r.From))
		case nbdWrite:
			body := make([]byte, r.Length)
			if _, err := io.ReadFull(conn, body); err != nil {
				return err
			}
			err = c.write(body, int64(r.From))
		case nbdFlush:
			err = c.flush()
		case nbdDisconnect:
			return nil
		default:
			return fmt.Errorf("a request of type %d, which was not offered", r.Type)
		}
		if err != nil {
			return err // QEMU sees its disk go
		}
		answer := binary.BigEndian.AppendUint32(nil, nbdAnswer)
		answer = binary.BigEndian.AppendUint32(answer, 0)
		answer = binary.BigEndian.AppendUint64(answer, r.Handle)
		if _, err := conn.Write(append(answer, data...)); err != nil {
			return err
		}
	}
}

func (c *cache) read(b []byte, at int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pieces(b, at, func(piece []byte, n, offset int64) error {
		if d := c.dirty[n]; d != nil {
			copy(piece, d[offset:])
			return nil
		}
		_, err := c.file.ReadAt(piece, n*block+offset)
		return err
	})
}

func (c *cache) write(b []byte, at int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.pieces(b, at, func(piece []byte, n, offset int64) error {
		d := c.dirty[n]
		if d == nil {
			d = make([]byte, block)
			if _, err := c.file.ReadAt(d, n*block); err != nil {
				return err
			}
			c.dirty[n] = d
		} else if rand.IntN(2) == 0 {
			if _, err := c.file.WriteAt(d, n*block); err != nil {
				return err
			}
		}
		copy(d[offset:], piece)
		return nil
	})
	for n, d := range c.dirty { // in an order of the runtime's choice
		if err != nil || len(c.dirty)*block <= maxDirty {
			break
		}
		_, err = c.file.WriteAt(d, n*block)
		delete(c.dirty, n)
	}
	return err
}

// pieces calls do for each block that b is a part of, with the part's place in the block.
func (c *cache) pieces(b []byte, at int64, do func(piece []byte, n, offset int64) error) error {
	if at < 0 || at+int64(len(b)) > c.size {
		return io.ErrUnexpectedEOF
	}
	for len(b) > 0 {
		n, offset := at/block, at%block
		size := min(int64(len(b)), block-offset)
		if err := do(b[:size], n, offset); err != nil {
			return err
		}
		b, at = b[size:], at+size
	}
	return nil
}

// flush makes everything durable. The file itself is not synced: it is the host's power that
// would take it, and the host stays on.
func (c *cache) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for n, d := range c.dirty {
		if _, err := c.file.WriteAt(d, n*block); err != nil {
			return err
		}
	}
	clear(c.dirty)
	return nil
}

// cut is the loss of power, once QEMU is gone: of blocks that were not flushed none, some or all
// become durable.
func (c *cache) cut() error {
	c.served.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	lucky := rand.Float64()*1.5 - 0.25
	for n, d := range c.dirty {
		if rand.Float64() < lucky {
			if _, err := c.file.WriteAt(d, n*block); err != nil {
				return err
			}
		}
	}
	clear(c.dirty)
	return nil
}
