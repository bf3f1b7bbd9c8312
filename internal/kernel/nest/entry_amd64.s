#include "textflag.h"

// func entry()
//
// The kernel leaves argc at SP, then argv, then the environment, and so it is handed on. Go code
// expects a thread pointer (the wrapper around early loads g from it) and X15 to be zero; the
// runtime then makes its own.
TEXT ·entry(SB), NOSPLIT|NOFRAME, $0
	MOVL $107, AX // geteuid
	SYSCALL
	TESTL AX, AX
	JZ   start
	MOVQ SP, BX
	MOVQ SP, ·stack(SB)
	ANDQ $~15, SP
	SUBQ $16, SP
	MOVL $158, AX    // arch_prctl
	MOVL $0x1002, DI // ARCH_SET_FS
	LEAQ ·tls+64(SB), SI
	SYSCALL
	XORPS X15, X15
	MOVQ BX, 0(SP)
	CALL ·early(SB)
	MOVQ ·stack(SB), SP

start:
	JMP _rt0_amd64_linux(SB)
