package compile

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/launch/numbers"
	"github.com/cortenhq/corten/internal/launch/rows"
	"github.com/cortenhq/corten/internal/plan"
)

// attributes compiles the steps that set how the kernel serves the process.
func (c *Program) attributes(s plan.Step) error {
	switch s := s.(type) {
	case plan.Schedule:
		attr, err := numbers.Scheduler(s)
		if err != nil {
			return err
		}
		c.Call(unix.SYS_SCHED_SETATTR, rows.Zero, rows.Point(c.Table, attr), rows.Zero)
	case plan.SetIOPriority:
		n, err := s.Number()
		if err != nil {
			return err
		}
		c.Call(unix.SYS_IOPRIO_SET, c.Num(numbers.OneProcess), rows.Zero, c.Num(uintptr(n)))
	case plan.RunOn:
		mask, err := plan.ReadList(s.CPUs)
		if err != nil {
			return err
		}
		c.Call(unix.SYS_SCHED_SETAFFINITY, rows.Zero, c.Num(uintptr(8*len(mask))), c.bitmap(mask))
	case plan.UseMemory:
		mode, nodes, err := s.Numbers()
		if err != nil {
			return err
		}
		if nodes == nil {
			c.Call(unix.SYS_SET_MEMPOLICY, c.Num(uintptr(mode)), rows.Zero, rows.Zero)
		} else { // the kernel takes one bit less than it is told of
			c.Call(unix.SYS_SET_MEMPOLICY, c.Num(uintptr(mode)), c.bitmap(nodes), c.Num(uintptr(64*len(nodes)+1)))
		}
	case plan.SeeMachine:
		n, err := s.Number()
		if err != nil {
			return err
		}
		c.Call(unix.SYS_PERSONALITY, c.Num(n))
	default:
		return errs.Newf(errs.Internal, "compile step", s.Kind(), "not a child step")
	}
	return nil
}

// bitmap is a slot that points at bits, which are not none.
func (c *Program) bitmap(words []uint64) rows.Slot {
	var b []byte
	for _, w := range words {
		b = binary.NativeEndian.AppendUint64(b, w)
	}
	return c.Bytes(b)
}

// Permissions of a session keyring (keyctl_setperm(3)): what it has by itself, and that its user may
// find it by its name.
const keyringPermissions = 0x3f1b0000

func (c *Program) keyring(s plan.NewKeyring) {
	name := rows.Zero
	if s.Name != "" {
		name = c.Text(s.Name)
	}
	join := c.Call(unix.SYS_KEYCTL, c.Num(unix.KEYCTL_JOIN_SESSION_KEYRING), name).Tolerate(0, unix.ENOSYS)
	if s.Name != "" && !s.Join {
		c.Call(unix.SYS_KEYCTL, c.Num(unix.KEYCTL_SETPERM), c.Result(join), c.Num(keyringPermissions))
		join.Tolerate(1, unix.ENOSYS)
	}
}
