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
#define SYS_exit_group 231
#define SYS_clone3     435

// func spawn(args *cloneArgs, size uintptr, rows *Row, n uintptr, out *Outcome) (pid int)
//
// The child shares this address space and runs on the registers alone: it touches no
// stack, no g, no TLS. R12 to R15, BX and BP survive a system call on amd64.
TEXT ·spawn(SB), NOSPLIT, $0-48
	MOVQ args+0(FP), DI
	MOVQ size+8(FP), SI
	MOVQ rows+16(FP), R12
	MOVQ n+24(FP), R13
	MOVQ out+32(FP), BX
	MOVQ $SYS_clone3, AX
	SYSCALL
	TESTQ AX, AX
	JZ   child
	MOVQ AX, pid+40(FP)
	RET

child:
	XORQ R15, R15 // the index of the row

next:
	CMPQ R15, R13
	JGE  done
	MOVQ R15, outcome_row(BX)
	MOVQ row_nr(R12), AX
	MOVQ (row_args+0)(R12), DI
	MOVQ (DI), DI
	MOVQ (row_args+8)(R12), SI
	MOVQ (SI), SI
	MOVQ (row_args+16)(R12), DX
	MOVQ (DX), DX
	MOVQ (row_args+24)(R12), R10
	MOVQ (R10), R10
	MOVQ (row_args+32)(R12), R8
	MOVQ (R8), R8
	MOVQ (row_args+40)(R12), R9
	MOVQ (R9), R9
	SYSCALL
	CMPQ AX, $-4095
	JCC  failed
	MOVQ row_out(R12), CX
	TESTQ CX, CX
	JZ   born
	MOVQ AX, (CX)

born:
	// A process that such a row makes goes on further down, with an outcome of its own.
	TESTQ AX, AX
	JNZ   advance
	MOVQ  row_fork(R12), DX
	TESTQ DX, DX
	JZ    advance
	ADDQ  $outcome_size, BX
	JMP   leave

advance:
	ADDQ $row_size, R12
	INCQ R15
	JMP  next

failed:
	NEGQ AX
	CMPQ AX, $4 // EINTR: the same row again
	JEQ  next
	CMPQ AX, $11 // EAGAIN of openat2: somebody renamed something just now
	JNE  allowed
	CMPQ row_nr(R12), $SYS_openat2
	JEQ  next

allowed:
	// row_allow holds up to four tolerated errno values, a 16 bit lane each.
	MOVQ row_allow(R12), CX

lane:
	TESTQ CX, CX
	JZ    fatal
	MOVQ  CX, DX
	ANDQ  $0xffff, DX
	SHRQ  $16, CX
	CMPQ  DX, AX
	JNE   lane

	MOVQ AX, outcome_last(BX)
	CMPQ AX, $13 // EACCES
	JNE  forgive
	MOVQ $1, outcome_eacces(BX)

forgive:
	MOVQ row_skip(R12), DX

leave: // out DX rows besides this one
	ADDQ DX, R15
	IMULQ $row_size, DX
	ADDQ DX, R12
	JMP  advance

fatal:
	MOVQ AX, outcome_errno(BX)
	MOVQ R15, outcome_failed(BX)
	MOVQ $127, DI
	JMP  exit

done:
	// The last rows are execs: to come here means that each failed in a tolerated way.
	MOVQ R13, outcome_row(BX)
	MOVQ $127, DI

exit:
	MOVQ $SYS_exit_group, AX
	SYSCALL
	INT $3
	JMP exit
