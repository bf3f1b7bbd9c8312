package testimage

import (
	"bytes"
	"encoding/binary"
	"runtime"
)

// ExitELF is a static program of under 200 bytes that does nothing but exit with the code
// given. It is the cheapest process there is, so a measured start is the engine's. arch is
// a GOARCH: amd64 or arm64.
func ExitELF(arch string, code uint8) []byte {
	const base, headers = 0x400000, 64 + 56
	machine, text := uint16(62), []byte{ // EM_X86_64
		0xbf, code, 0, 0, 0, // mov edi, code
		0xb8, 231, 0, 0, 0, // mov eax, exit_group
		0x0f, 0x05, // syscall
	}
	if arch == "arm64" {
		machine = 183 // EM_AARCH64
		text = nil
		for _, word := range []uint32{
			0xd2800000 | uint32(code)<<5, // mov x0, code
			0xd2800000 | 94<<5 | 8,       // mov x8, exit_group
			0xd4000001,                   // svc 0
		} {
			text = binary.LittleEndian.AppendUint32(text, word)
		}
	}
	size := uint64(headers + len(text))
	var b bytes.Buffer
	b.WriteString("\x7fELF\x02\x01\x01") // 64 bits, little endian, version 1
	b.Write(make([]byte, 9))
	for _, field := range []any{
		uint16(2), machine, uint32(1), uint64(base + headers), // executable, its entry
		uint64(64), uint64(0), uint32(0), // program headers follow; no sections
		uint16(64), uint16(56), uint16(1), uint16(0), uint16(0), uint16(0),
		uint32(1), uint32(5), uint64(0), // load, readable and executable, from offset 0
		uint64(base), uint64(base), size, size, uint64(0x1000),
	} {
		binary.Write(&b, binary.LittleEndian, field)
	}
	b.Write(text)
	return b.Bytes()
}

// trueFiles are /true and /false for this machine.
func trueFiles() []File {
	return []File{
		{Name: "true", Mode: 0o755, Data: ExitELF(runtime.GOARCH, 0)},
		{Name: "false", Mode: 0o755, Data: ExitELF(runtime.GOARCH, 1)},
	}
}
