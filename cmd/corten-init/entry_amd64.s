#include "textflag.h"

// func entry()
//
// The kernel leaves argc at SP, then argv, then the environment. Go code expects a thread
// pointer (the wrapper around run loads g from it) and X15 to be zero.
TEXT ·entry(SB), NOSPLIT|NOFRAME, $0
	MOVQ SP, BX
	ANDQ $~15, SP
	SUBQ $16, SP
	MOVL $158, AX    // arch_prctl
	MOVL $0x1002, DI // ARCH_SET_FS
	LEAQ ·tls+64(SB), SI
	SYSCALL
	XORPS X15, X15
	MOVQ BX, 0(SP)
	CALL ·run(SB)
	INT  $3
