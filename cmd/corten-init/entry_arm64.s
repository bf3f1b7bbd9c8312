#include "textflag.h"

// func entry()
//
// The kernel leaves argc at RSP, then argv, then the environment.
TEXT ·entry(SB), NOSPLIT|NOFRAME, $0
	MOVD RSP, R0
	SUB  $32, RSP
	MOVD R0, 8(RSP)
	MOVD ZR, g
	CALL ·run(SB)
	BRK
