#include "textflag.h"

// onSignal(signal): writes the signal's number, as 8 bytes, to descriptor SignalFD.
TEXT ·onSignal(SB), NOSPLIT|NOFRAME, $0
	SUB  $32, RSP
	MOVD R0, 8(RSP)
	MOVD $13, R0      // SignalFD
	ADD  $8, RSP, R1
	MOVD $8, R2
	MOVD $64, R8      // write
	SVC
	ADD  $32, RSP
	RET               // to onReturn

TEXT ·onReturn(SB), NOSPLIT|NOFRAME, $0
	MOVD $139, R8     // rt_sigreturn
	SVC
	BRK

// func handlers() (signal, restorer uintptr)
TEXT ·handlers(SB), NOSPLIT, $0-16
	MOVD $·onSignal(SB), R0
	MOVD R0, signal+0(FP)
	MOVD $·onReturn(SB), R0
	MOVD R0, restorer+8(FP)
	RET
