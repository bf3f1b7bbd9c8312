#include "textflag.h"

// func entry()
//
// The kernel leaves argc at RSP, then argv, then the environment, and so it is handed on.
TEXT ·entry(SB), NOSPLIT|NOFRAME, $0
	MOVD $175, R8 // geteuid
	SVC
	CBZ  R0, start
	MOVD RSP, R0
	MOVD R0, ·stack(SB)
	SUB  $32, RSP
	MOVD R0, 8(RSP)
	MOVD ZR, g
	CALL ·early(SB)
	MOVD ·stack(SB), R0
	MOVD R0, RSP

start:
	JMP _rt0_arm64_linux(SB)
