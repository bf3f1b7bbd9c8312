package launch

import "golang.org/x/sys/unix"

// row is one prepared system call of the child; the stub walks an array of them.
//
// Each argument is the address of its value, so that a number which is not known yet (a
// descriptor that an earlier row or the launcher opens) is filled in where it lies. The
// fields are laid out for the assembly in stub_*.s. Pointers are kept as integers: what
// they point at is kept alive by the table.
type row struct {
	nr    uintptr
	args  [6]uintptr // addresses of slots
	out   uintptr    // address of the slot that takes the result; 0: none
	allow uint64     // up to four errno values, a 16 bit lane each, that are not fatal
	skip  uintptr    // rows to leave out as well after a tolerated error
	fork  uintptr    // of a row that makes a process: rows that the new one leaves out as well
}

// outcome is what a child leaves behind that dies before its exec.
type outcome struct {
	row    uintptr // the row that failed; the number of rows if every exec was tolerated
	errno  uintptr // 0 while all is well
	last   uintptr // the last tolerated error
	eacces uintptr // 1 if a tolerated error was EACCES: of several execs, one was there but might not be executed
	failed uintptr // the row of errno: another process may have walked on meanwhile (plan.Fork)
}

// kin is what the kernel tells of the process that a row of the table makes.
type kin struct {
	pid   int32 // 0 until there is one; as its maker sees it
	alive int32 // as born.alive
}

// slot is the index of a number in table.slots.
type slot int

const (
	zero   = slot(0)
	perRow = 4 // slots a row needs, on average at most
)

// table is the compiled child: rows, the step that each belongs to, and all the memory that
// rows point at. Nothing in it moves once rows refer to it.
type table struct {
	rows   []row
	steps  []int // rows[i] belongs to child step steps[i]
	step   int   // the step being compiled
	slots  []uintptr
	keep   []any // structures that slots point at, and what text has filled
	chars  []byte
	out    outcome
	kinOut outcome // of the process that a row with fork makes; the stub looks for it after out
	kin    *kin    // nil if there is no such row
	alive  int32   // the kernel zeroes it when the process stops sharing our memory
	spent  bool    // a row or slot did not fit: the table is useless
}

// newTable returns a table with room for this many rows.
func newTable(rows int) *table {
	return &table{
		rows:  make([]row, 0, rows),
		steps: make([]int, 0, rows),
		slots: make([]uintptr, 1, rows*perRow),
	}
}

// num returns a slot that holds v.
func (t *table) num(v uintptr) slot {
	if v == 0 {
		return zero
	}
	return t.unset(v)
}

// unset returns a fresh slot that starts as v and is written later.
func (t *table) unset(v uintptr) slot {
	if len(t.slots) == cap(t.slots) {
		t.spent = true
		return zero
	}
	t.slots = append(t.slots, v)
	return slot(len(t.slots) - 1)
}

// rowRef lets the caller of call say more about the row.
type rowRef struct{ r *row }

// call adds a row. Missing arguments are zero.
func (t *table) call(nr uintptr, args ...slot) rowRef {
	r := row{nr: nr}
	for i := range r.args {
		s := zero
		if i < len(args) {
			s = args[i]
		}
		r.args[i] = t.address(s)
	}
	if len(t.rows) == cap(t.rows) {
		t.spent = true
		return rowRef{new(row)}
	}
	t.rows = append(t.rows, r)
	t.steps = append(t.steps, t.step)
	return rowRef{&t.rows[len(t.rows)-1]}
}

// allow tolerates up to four errors; skip more rows are left out after one of them.
func (r rowRef) allow(skip int, errnos ...unix.Errno) rowRef {
	for i, e := range errnos {
		r.r.allow |= uint64(e) << (16 * i)
	}
	r.r.skip = uintptr(skip)
	return r
}

// result stores what the row returns in a fresh slot.
func (t *table) result(r rowRef) slot {
	s := t.unset(^uintptr(0))
	r.r.out = t.address(s)
	return s
}

// resultIn stores what the row returns in s.
func (t *table) resultIn(r rowRef, s slot) { r.r.out = t.address(s) }
