// Package rows runs tables of system calls in new processes.
//
// A table is filled while nobody runs it: rows, the numbers that their arguments are (slots), and
// all the memory that they point at. Start makes a process that walks it, on the registers of a
// few dozen lines of assembly alone, until a row executes a program or fails. Who started it may
// write to slots whose rows have not run, and finds in the outcome which row failed and why.
package rows

import "golang.org/x/sys/unix"

// Row is one prepared system call of the child; the stub walks an array of them.
//
// Each argument is the address of its value, so that a number which is not known yet (a
// descriptor that an earlier row or the launcher opens) is filled in where it lies. The
// fields are laid out for the assembly in stub_*.s. Pointers are kept as integers: what
// they point at is kept alive by the table.
type Row struct {
	Nr    uintptr
	Args  [6]uintptr // addresses of slots
	Out   uintptr    // address of the slot that takes the result; 0: none
	Allow uint64     // up to four errno values, a 16 bit lane each, that are not fatal
	Skip  uintptr    // rows to leave out as well after a tolerated error
	Fork  uintptr    // of a row that makes a process: rows that the new one leaves out as well
}

// Outcome is what a child leaves behind that dies before its exec.
type Outcome struct {
	Row    uintptr // the row that failed; the number of rows if every exec was tolerated
	Errno  uintptr // 0 while all is well
	Last   uintptr // the last tolerated error
	Eacces uintptr // 1 if a tolerated error was EACCES: of several execs, one was there but might not be executed
	Failed uintptr // the row of Errno: another process may have walked on meanwhile (Clone)
}

// Kin is what the kernel tells of the process that a row of the table makes.
type Kin struct {
	PID   int32 // 0 until there is one; as its maker sees it
	Alive int32 // 1 until it stops sharing our memory
}

// Slot is the index of a number in Table.Slots.
type Slot int

// Zero is a slot that holds 0, which nobody writes to.
const Zero = Slot(0)

const perRow = 4 // slots a row needs, on average at most

// Table is the compiled child: rows, the step that each belongs to, and all the memory that
// rows point at. Nothing in it moves once rows refer to it.
type Table struct {
	Rows   []Row
	Steps  []int // Rows[i] belongs to step Steps[i]
	Step   int   // the step that rows are added for
	Slots  []uintptr
	Out    Outcome
	KinOut Outcome // of the process that a row with Fork makes; the stub looks for it after Out
	Kin    *Kin    // nil if there is no such row
	Spent  bool    // a row or slot did not fit: the table is useless, and a larger one has to be made

	keep  []any // structures that slots point at, and what text has filled
	chars []byte
	heir  heir
	alive int32 // the kernel zeroes it when the process stops sharing our memory
}

// New returns a table with room for this many rows.
func New(rows int) *Table {
	return &Table{
		Rows:  make([]Row, 0, rows),
		Steps: make([]int, 0, rows),
		Slots: make([]uintptr, 1, rows*perRow),
	}
}

// Num returns a slot that holds v.
func (t *Table) Num(v uintptr) Slot {
	if v == 0 {
		return Zero
	}
	return t.Unset(v)
}

// Unset returns a fresh slot that starts as v and is written later.
func (t *Table) Unset(v uintptr) Slot {
	if len(t.Slots) == cap(t.Slots) {
		t.Spent = true
		return Zero
	}
	t.Slots = append(t.Slots, v)
	return Slot(len(t.Slots) - 1)
}

// Call adds a row. Missing arguments are zero. There are some hundred calls of it in the program,
// which would be 40 kB larger with it in each.
//
//go:noinline
func (t *Table) Call(nr uintptr, args ...Slot) *Row {
	r := Row{Nr: nr}
	for i := range r.Args {
		s := Zero
		if i < len(args) {
			s = args[i]
		}
		r.Args[i] = t.Address(s)
	}
	if len(t.Rows) == cap(t.Rows) {
		t.Spent = true
		return new(Row)
	}
	t.Rows = append(t.Rows, r)
	t.Steps = append(t.Steps, t.Step)
	return &t.Rows[len(t.Rows)-1]
}

// Tolerate tolerates up to four errors; skip more rows are left out after one of them.
func (r *Row) Tolerate(skip int, errnos ...unix.Errno) *Row {
	for i, e := range errnos {
		r.Allow |= uint64(e) << (16 * i)
	}
	r.Skip = uintptr(skip)
	return r
}

// Result stores what the row returns in a fresh slot.
func (t *Table) Result(r *Row) Slot {
	s := t.Unset(^uintptr(0))
	r.Out = t.Address(s)
	return s
}

// ResultIn stores what the row returns in s.
func (t *Table) ResultIn(r *Row, s Slot) { r.Out = t.Address(s) }
