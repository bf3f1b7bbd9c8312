#include "textflag.h"

// onSignal(signal): writes the signal's number, as 8 bytes, to descriptor SignalFD.
TEXT ·onSignal(SB), NOSPLIT|NOFRAME, $0
	SUBQ $24, SP
	MOVQ DI, 0(SP)
	MOVL $13, DI      // SignalFD
	MOVQ SP, SI
	MOVL $8, DX
	MOVL $1, AX       // write
	SYSCALL
	ADDQ $24, SP
	RET               // to onReturn

TEXT ·onReturn(SB), NOSPLIT|NOFRAME, $0
	MOVL $15, AX      // rt_sigreturn
	SYSCALL
	INT  $3

// func handlers() (signal, restorer uintptr)
TEXT ·handlers(SB), NOSPLIT, $0-16
	LEAQ ·onSignal(SB), AX
	MOVQ AX, signal+0(FP)
	LEAQ ·onReturn(SB), AX
	MOVQ AX, restorer+8(FP)
	RET
