package rows

import "unsafe"

// Address is where slot s lies. The slots were allocated with their full capacity, so they
// do not move.
func (t *Table) Address(s Slot) uintptr {
	return uintptr(unsafe.Pointer(&t.Slots[s]))
}

// Text returns a slot that points at s as a C string.
func (t *Table) Text(s string) Slot { return t.Unset(t.cString(s)) }

// cString copies a string to where it stays, with a zero after it. They are many and short,
// so they share their memory.
func (t *Table) cString(s string) uintptr {
	if len(s)+1 > cap(t.chars)-len(t.chars) {
		t.chars = make([]byte, 0, max(4096, len(s)+1))
		t.keep = append(t.keep, t.chars)
	}
	at := len(t.chars)
	t.chars = append(append(t.chars, s...), 0)
	return uintptr(unsafe.Pointer(&t.chars[at]))
}

// Bytes returns a slot that points at b, which must not be empty and is kept alive.
func (t *Table) Bytes(b []byte) Slot {
	t.keep = append(t.keep, b)
	return t.Unset(uintptr(unsafe.Pointer(&b[0])))
}

// Point returns a slot that points at *p and keeps it alive.
func Point[T any](t *Table, p *T) Slot {
	t.keep = append(t.keep, p)
	return t.Unset(uintptr(unsafe.Pointer(p)))
}

// Texts returns a slot that points at a null-terminated array of C strings.
func (t *Table) Texts(list []string) Slot {
	ptrs := make([]uintptr, len(list)+1)
	for i, s := range list {
		ptrs[i] = t.cString(s)
	}
	t.keep = append(t.keep, ptrs)
	return t.Unset(uintptr(unsafe.Pointer(&ptrs[0])))
}
