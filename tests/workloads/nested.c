// SPDX-License-Identifier: Apache-2.0
/* nested: for each line "DEPTH TIMES USECS" on standard input calls nest(DEPTH) TIMES times, which calls itself until it
 * is at 1 and then, on the way back, sleeps USECS at each level; prints a line and waits for the next one.
 *
 * "jump TIMES": calls out() TIMES times, which does not return but jumps back.  "args TIMES": six(1, 2, 3, 4, 5, 6).
 */
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FRAME __attribute__((noinline, noclone, optimize("no-omit-frame-pointer", "no-optimize-sibling-calls")))

static jmp_buf back;

FRAME long nest(long depth, long usecs)
{
	volatile long below = 0;

	if (depth > 1)
		below = nest(depth - 1, usecs);
	usleep(usecs);
	return below + 1;
}

FRAME long out(volatile long *sum)
{
	*sum += 1;
	longjmp(back, 1);
}

FRAME long six(long a, long b, long c, long d, long e, long f)
{
	usleep(2000);
	return -(a + b + c + d + e + f);
}

int FRAME main(void)
{
	char line[64];
	volatile long sum = 0, depth, times, usecs;
	long one, two, three;

	while (fgets(line, sizeof(line), stdin)) {
		if (sscanf(line, "%ld %ld %ld", &one, &two, &three) == 3) {
			depth = one;
			usecs = three;
			for (times = two; times > 0; times--)
				sum += nest(depth, usecs);
		} else if (sscanf(line, "jump %ld", &one) == 1) {
			for (times = one; times > 0; times--)
				if (!setjmp(back))
					out(&sum);
		} else if (sscanf(line, "args %ld", &one) == 1) {
			for (times = one; times > 0; times--)
				sum += six(1, 2, 3, 4, 5, 6);
		} else {
			return 2;
		}
		printf("%ld\n", sum);
		fflush(stdout);
	}
	return 0;
}
