package rules

import (
	"encoding/binary"
	"errors"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
)

// batch is messages that become true together or not at all. The library's own has the kernel answer
// each message, and repeat each rule: of the 4 ms for our tables that is 3. Here the
// kernel answers the last one, and those that are wrong.
type batch struct {
	b    []byte
	last int // where the message begins that is answered
	err  error
}

// attribute is one of a message; big is a number, text a name.
type attribute = netlink.Attribute

func big(kind uint16, n uint32) attribute {
	return attribute{Type: kind, Data: binary.BigEndian.AppendUint32(nil, n)}
}

func text(kind uint16, s string) attribute { return attribute{Type: kind, Data: []byte(s + "\x00")} }

func bytesOf(kind uint16, b []byte) attribute { return attribute{Type: kind, Data: b} }

func (b *batch) nest(kind uint16, list ...attribute) attribute {
	data, err := netlink.MarshalAttributes(list)
	if err != nil {
		b.err = err
	}
	return attribute{Type: kind | unix.NLA_F_NESTED, Data: data}
}

// add adds a message of nftables.
func (b *batch) add(kind, flags uint16, family byte, list ...attribute) {
	data, err := netlink.MarshalAttributes(list)
	if err != nil {
		b.err = err
	}
	b.last = len(b.b)
	b.message(unix.NFNL_SUBSYS_NFTABLES<<8|kind, flags, family, 0, data)
}

// message adds one, with the header of nfnetlink (linux/netfilter/nfnetlink.h).
func (b *batch) message(kind, flags uint16, family byte, resource uint16, data []byte) {
	size := unix.SizeofNlMsghdr + 4 + len(data)
	b.b = binary.NativeEndian.AppendUint32(b.b, uint32(size))
	b.b = binary.NativeEndian.AppendUint16(b.b, kind)
	b.b = binary.NativeEndian.AppendUint16(b.b, flags|unix.NLM_F_REQUEST)
	b.b = append(b.b, make([]byte, 8)...) // its number, and whose it is: the answer is the only one
	b.b = append(b.b, family, unix.NFNETLINK_V0)
	b.b = binary.BigEndian.AppendUint16(b.b, resource)
	b.b = append(append(b.b, data...), make([]byte, -len(data)&3)...)
}

func newBatch() *batch {
	b := &batch{b: make([]byte, 0, 16<<10)}
	b.message(unix.NFNL_MSG_BATCH_BEGIN, 0, 0, unix.NFNL_SUBSYS_NFTABLES, nil)
	return b
}

// table adds a table, or deletes it.
func (b *batch) table(kind, flags uint16, t Table) {
	b.add(kind, flags, t.family(), text(unix.NFTA_TABLE_NAME, t.Name))
}

// afresh deletes a table, which may be there or not: it is deleted only if it is, and it is after it
// was added.
func (b *batch) afresh(t Table) {
	b.table(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, t)
	b.table(unix.NFT_MSG_DELTABLE, 0, t)
}

// none deletes the tables, whichever are there. Those of few networks are looked for first: to delete what is
// not there costs 100 µs each, and to ask 3.
func (b *batch) none(c *Conn, facts Facts) {
	for _, family := range []string{"inet", "bridge", "ip", "ip6"} {
		if t := (Table{Family: family, Name: facts.Name}); family == "inet" || family == "bridge" || c.has(t) {
			b.afresh(t)
		}
	}
}

// has reports whether there is a table.
func (c *Conn) has(t Table) bool {
	b := &batch{}
	b.table(unix.NFT_MSG_GETTABLE, 0, t)
	return b.err == nil && c.send(b.b) == nil && c.answers() == nil
}

// create adds a table with all that is in it.
func (b *batch) create(t Table) {
	b.table(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, t)
	for i, s := range t.Sets {
		b.set(t, s, uint32(i+1))
		b.elements(unix.NFT_MSG_NEWSETELEM, t, s)
	}
	for _, c := range t.Chains {
		b.chain(t, c)
	}
	for _, c := range t.Chains {
		for _, r := range c.Rules {
			b.rule(t, c, r)
		}
	}
}

func (b *batch) set(t Table, s Set, id uint32) {
	of := joined(s.Of)
	list := []attribute{text(unix.NFTA_SET_TABLE, t.Name), text(unix.NFTA_SET_NAME, s.Name),
		big(unix.NFTA_SET_KEY_TYPE, of.GetNFTMagic()), big(unix.NFTA_SET_KEY_LEN, of.Bytes), big(unix.NFTA_SET_ID, id)}
	if s.To != nil {
		to := joined(s.To)
		list = append(list, big(unix.NFTA_SET_FLAGS, unix.NFT_SET_MAP),
			big(unix.NFTA_SET_DATA_TYPE, to.GetNFTMagic()), big(unix.NFTA_SET_DATA_LEN, to.Bytes))
	}
	switch { // how nft(8) prints it
	case s.Like != nil:
		list = append(list, bytesOf(unix.NFTA_SET_USERDATA, userdata.Append(nil, userdata.NFTNL_UDATA_SET_KEY_TYPEOF, likeness(s.Like))))
	case len(s.Of) == 1:
		list = append(list, bytesOf(unix.NFTA_SET_USERDATA, userdata.AppendUint32(nil, userdata.NFTNL_UDATA_SET_KEYBYTEORDER, 1)))
	}
	b.add(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, t.family(), list...)
}

// elementsOfMessage is how many fit: the length of the list is a number of 16 bits (struct nlattr).
const elementsOfMessage = 400

// elements adds those of a set, or deletes them: of those only the keys are told.
func (b *batch) elements(kind uint16, t Table, s Set) {
	for all := s.Elements; len(all) > 0; {
		n := min(len(all), elementsOfMessage)
		var list []attribute
		for _, e := range all[:n] {
			parts := []attribute{b.nest(unix.NFTA_SET_ELEM_KEY, bytesOf(unix.NFTA_DATA_VALUE, e.Key))}
			if e.Value != nil && kind == unix.NFT_MSG_NEWSETELEM {
				parts = append(parts, b.nest(unix.NFTA_SET_ELEM_DATA, bytesOf(unix.NFTA_DATA_VALUE, e.Value)))
			}
			list = append(list, b.nest(unix.NFTA_LIST_ELEM, parts...))
		}
		b.add(kind, unix.NLM_F_CREATE, t.family(), text(unix.NFTA_SET_ELEM_LIST_TABLE, t.Name), text(unix.NFTA_SET_ELEM_LIST_SET, s.Name),
			b.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, list...))
		all = all[n:]
	}
}

// chain adds a chain; what no rule decides is accepted (NF_ACCEPT is 1).
func (b *batch) chain(t Table, c Chain) {
	list := []attribute{text(unix.NFTA_CHAIN_TABLE, t.Name), text(unix.NFTA_CHAIN_NAME, c.Name)}
	if c.Hook != "" {
		list = append(list, b.nest(unix.NFTA_CHAIN_HOOK, big(unix.NFTA_HOOK_HOOKNUM, hook(c.Hook)), big(unix.NFTA_HOOK_PRIORITY, uint32(c.Priority))),
			big(unix.NFTA_CHAIN_POLICY, 1), text(unix.NFTA_CHAIN_TYPE, c.Type))
	}
	b.add(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, t.family(), list...)
}

func (b *batch) rule(t Table, c Chain, r Rule) {
	var list []attribute
	for _, e := range r.code() {
		data, err := expr.Marshal(t.family(), e)
		if err != nil {
			b.err = err
		}
		list = append(list, bytesOf(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, data))
	}
	b.add(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, t.family(),
		text(unix.NFTA_RULE_TABLE, t.Name), text(unix.NFTA_RULE_CHAIN, c.Name), b.nest(unix.NFTA_RULE_EXPRESSIONS, list...))
}

// commit has the kernel do it. All of it has happened when the kernel has taken the messages, so
// its answers are there then.
func (c *Conn) commit(op string, b *batch) error {
	if b.err != nil {
		return errs.New(errs.Internal, op, "", b.err)
	}
	if b.last == 0 {
		return nil // nothing was added
	}
	flags := b.b[b.last+6:]
	binary.NativeEndian.PutUint16(flags, binary.NativeEndian.Uint16(flags)|unix.NLM_F_ACK)
	b.message(unix.NFNL_MSG_BATCH_END, 0, 0, unix.NFNL_SUBSYS_NFTABLES, nil)
	err := c.send(b.b)
	if err == nil {
		err = c.answers()
	}
	return lacking(op, err)
}

func (c *Conn) send(b []byte) error {
	if c.fd < 0 {
		return unix.EPROTONOSUPPORT
	}
	for {
		if err := unix.Sendto(c.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// answers reads all that the kernel has answered, and returns the first error.
func (c *Conn) answers() (first error) {
	b := make([]byte, 16<<10)
	for {
		n, _, err := unix.Recvfrom(c.fd, b, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return first
		case errors.Is(err, unix.ENOBUFS): // more errors than there was room for
			if first == nil {
				first = unix.ENOBUFS
			}
			continue
		case err != nil:
			return err
		}
		for m := b[:n]; len(m) >= unix.SizeofNlMsghdr+4; {
			size := int(binary.NativeEndian.Uint32(m[:4]))
			if size < unix.SizeofNlMsghdr || size > len(m) {
				break
			}
			if binary.NativeEndian.Uint16(m[4:6]) == unix.NLMSG_ERROR && size >= unix.SizeofNlMsghdr+4 {
				if errno := -int32(binary.NativeEndian.Uint32(m[16:20])); errno != 0 && first == nil {
					first = unix.Errno(errno)
				}
			}
			m = m[min((size+3)&^3, len(m)):]
		}
	}
}
