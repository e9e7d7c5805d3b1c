// SPDX-License-Identifier: Apache-2.0
/* burn ROUNDS: for each line on standard input computes ROUNDS times: six parts in most(), three in some(), one in few();
 * prints a line and waits for the next one.  With frame pointers, unless it is compiled with -DPLAIN.
 */
#include <stdio.h>
#include <stdlib.h>

#ifdef PLAIN
#define FRAME __attribute__((noinline, noclone, aligned(64)))
#else
#define FRAME                                                                                                          \
	__attribute__((noinline, noclone, aligned(64), optimize("no-omit-frame-pointer", "no-optimize-sibling-calls")))
#endif

/* Each adds another number, or the compiler would make one function of them, and has something on the stack, or it
 * would have no frame even so.
 */
#define PART(name, number)                                                                                             \
	static FRAME unsigned name(unsigned x, long rounds)                                                            \
	{                                                                                                              \
		volatile long left = rounds;                                                                           \
                                                                                                                       \
		for (rounds = left; rounds > 0; rounds--)                                                              \
			x = x * 1664525u + number;                                                                     \
		return x;                                                                                              \
	}

#define PIECE 150000L

PART(most, 1013904223u)
PART(some, 1013904225u)
PART(few, 1013904227u)

static FRAME unsigned work(unsigned x)
{
	x = most(x, 6 * PIECE);
	x = some(x, 3 * PIECE);
	return few(x, PIECE) + 1; /* no call that is a jump */
}

int FRAME main(int argc, char **argv)
{
	char line[64];
	unsigned x = argc;

	if (argc != 2)
		return 2;
	while (fgets(line, sizeof(line), stdin)) {
		for (long n = atol(argv[1]); n > 0; n--)
			x = work(x);
		printf("%u\n", x);
		fflush(stdout);
	}
	return 0;
}
