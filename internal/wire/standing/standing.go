// Package standing looks whether our rules are there. Who has flushed the host's rules has
// removed them too, and nobody is told of it: so commands and keepers look now and then. It is
// apart from what makes the rules because a keeper links it.
package standing

import (
	"encoding/binary"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
)

// Table is the name of the tables of those containers whose run folder is run: each folder has its own, so that the
// last container of one does not take another's away.
func Table(run string) string {
	if run == "/run/corten" {
		return "corten"
	}
	sum := uint32(2166136261) // FNV-1a
	for i := range len(run) {
		sum = (sum ^ uint32(run[i])) * 16777619
	}
	return "corten-" + strconv.FormatUint(uint64(sum), 16)
}

// Look reports whether the table of a run folder is there, in the family inet. It takes 4 µs. A
// kernel without nftables has none.
func Look(run string) (bool, error) { return look(Table(run), make([]byte, messageSize)) }

// messageSize is room for any message, in bytes.
const messageSize = 512

// look is Look in the memory b.
func look(table string, b []byte) (bool, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err == unix.EPROTONOSUPPORT {
		return false, nil
	}
	if err != nil {
		return false, errs.Wrap("look for table", table, err)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, request(b, table)); err != nil { // to the kernel: sendto(2) leaves garbage
		return false, errs.Wrap("look for table", table, err)
	}
	for {
		n, err := unix.Read(fd, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return false, errs.Wrap("look for table", table, err)
		}
		return answer(table, b[:n])
	}
}

// request is NFT_MSG_GETTABLE for one table (linux/netfilter/nf_tables.h): a netlink header, the
// family and version of nfnetlink, and the name as an attribute. It is put into b.
func request(b []byte, table string) []byte {
	size := unix.SizeofNlMsghdr + 4 + unix.SizeofNlAttr + (len(table)+1+3)/4*4
	clear(b[:size])
	e := binary.NativeEndian
	e.PutUint32(b, uint32(size))
	e.PutUint16(b[4:], unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETTABLE)
	e.PutUint16(b[6:], unix.NLM_F_REQUEST)
	b[16] = unix.NFPROTO_INET
	e.PutUint16(b[20:], unix.SizeofNlAttr+uint16(len(table))+1)
	e.PutUint16(b[22:], unix.NFTA_TABLE_NAME)
	copy(b[24:], table)
	return b[:size]
}

// answer reads the first message: the table, or an error.
func answer(table string, b []byte) (bool, error) {
	if len(b) < unix.SizeofNlMsghdr+4 {
		return false, errs.Newf(errs.Corrupt, "look for table", table, "the kernel's answer is too short")
	}
	e := binary.NativeEndian
	if e.Uint16(b[4:]) != unix.NLMSG_ERROR {
		return true, nil
	}
	switch errno := unix.Errno(-int32(e.Uint32(b[16:]))); errno {
	case unix.ENOENT, unix.EOPNOTSUPP, unix.EINVAL, unix.EPROTONOSUPPORT: // no such table, or no nftables, or not for inet
		return false, nil
	default:
		return false, errs.Wrap("look for table", table, errno)
	}
}
