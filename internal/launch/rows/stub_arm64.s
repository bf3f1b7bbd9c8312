#include "textflag.h"

// The layout of Row and Outcome is in table.go; stub_test.go checks the offsets.
#define row_nr    0
#define row_args  8
#define row_out   56
#define row_allow 64
#define row_skip  72
#define row_fork  80
#define row_size  88

#define outcome_row   0
#define outcome_errno 8
#define outcome_last  16
#define outcome_eacces 24
#define outcome_failed 32
#define outcome_size   40

#define SYS_openat2    437
#define SYS_exit_group 94
#define SYS_clone3     435

// func spawn(args *cloneArgs, size uintptr, rows *Row, n uintptr, out *Outcome) (pid int)
//
// The child shares this address space and runs on the registers alone: it touches no
// stack, no g, no TLS. Every register but R0 survives a system call on arm64; R18 and
// R27 to R29 are left alone.
TEXT ·spawn(SB), NOSPLIT, $0-48
	MOVD args+0(FP), R0
	MOVD size+8(FP), R1
	MOVD rows+16(FP), R19
	MOVD n+24(FP), R20
	MOVD out+32(FP), R21
	MOVD $SYS_clone3, R8
	SVC
	CBZ  R0, child
	MOVD R0, pid+40(FP)
	RET

child:
	MOVD ZR, R22 // the index of the row

next:
	CMP  R20, R22
	BGE  done
	MOVD R22, outcome_row(R21)
	MOVD row_nr(R19), R8
	MOVD (row_args+0)(R19), R0
	MOVD (R0), R0
	MOVD (row_args+8)(R19), R1
	MOVD (R1), R1
	MOVD (row_args+16)(R19), R2
	MOVD (R2), R2
	MOVD (row_args+24)(R19), R3
	MOVD (R3), R3
	MOVD (row_args+32)(R19), R4
	MOVD (R4), R4
	MOVD (row_args+40)(R19), R5
	MOVD (R5), R5
	SVC
	CMN  $4095, R0
	BCS  failed
	MOVD row_out(R19), R9
	CBZ  R9, born
	MOVD R0, (R9)

born:
	// A process that such a row makes goes on further down, with an outcome of its own.
	CBNZ R0, advance
	MOVD row_fork(R19), R10
	CBZ  R10, advance
	ADD  $outcome_size, R21
	B    leave

advance:
	ADD  $row_size, R19
	ADD  $1, R22
	B    next

failed:
	NEG  R0, R0
	CMP  $4, R0 // EINTR: the same row again
	BEQ  next
	CMP  $11, R0 // EAGAIN of openat2: somebody renamed something just now
	BNE  allowed
	MOVD row_nr(R19), R9
	CMP  $SYS_openat2, R9
	BEQ  next

allowed:
	// row_allow holds up to four tolerated errno values, a 16 bit lane each.
	MOVD row_allow(R19), R9

lane:
	CBZ  R9, fatal
	AND  $0xffff, R9, R10
	LSR  $16, R9, R9
	CMP  R0, R10
	BNE  lane

	MOVD R0, outcome_last(R21)
	CMP  $13, R0 // EACCES
	BNE  forgive
	MOVD $1, R9
	MOVD R9, outcome_eacces(R21)

forgive:
	MOVD row_skip(R19), R10

leave: // out R10 rows besides this one
	ADD  R10, R22
	MOVD $row_size, R11
	MADD R11, R19, R10, R19
	B    advance

fatal:
	MOVD R0, outcome_errno(R21)
	MOVD R22, outcome_failed(R21)
	MOVD $127, R0
	B    exit

done:
	// The last rows are execs: to come here means that each failed in a tolerated way.
	MOVD R20, outcome_row(R21)
	MOVD $127, R0

exit:
	MOVD $SYS_exit_group, R8
	SVC
	BRK
	B    exit
