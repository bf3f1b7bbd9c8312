package launch

import "unsafe"

// address is where slot s lies. The slots were allocated with their full capacity, so they
// do not move.
func (t *table) address(s slot) uintptr {
	return uintptr(unsafe.Pointer(&t.slots[s]))
}

// text returns a slot that points at s as a C string.
func (t *table) text(s string) slot { return t.unset(t.cString(s)) }

// cString copies a string to where it stays, with a zero after it. They are many and short,
// so they share their memory.
func (t *table) cString(s string) uintptr {
	if len(s)+1 > cap(t.chars)-len(t.chars) {
		t.chars = make([]byte, 0, max(4096, len(s)+1))
		t.keep = append(t.keep, t.chars)
	}
	at := len(t.chars)
	t.chars = append(append(t.chars, s...), 0)
	return uintptr(unsafe.Pointer(&t.chars[at]))
}

// bytes returns a slot that points at b, which must not be empty and is kept alive.
func (t *table) bytes(b []byte) slot {
	t.keep = append(t.keep, b)
	return t.unset(uintptr(unsafe.Pointer(&b[0])))
}

// point returns a slot that points at *p and keeps it alive.
func point[T any](t *table, p *T) slot {
	t.keep = append(t.keep, p)
	return t.unset(uintptr(unsafe.Pointer(p)))
}

// texts returns a slot that points at a null-terminated array of C strings.
func (t *table) texts(list []string) slot {
	ptrs := make([]uintptr, len(list)+1)
	for i, s := range list {
		ptrs[i] = t.cString(s)
	}
	t.keep = append(t.keep, ptrs)
	return t.unset(uintptr(unsafe.Pointer(&ptrs[0])))
}
