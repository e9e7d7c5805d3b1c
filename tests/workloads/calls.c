// SPDX-License-Identifier: Apache-2.0
/* calls: for each line "A B" on standard input calls counted_function() A times from by_left() and B times from
 * by_right(), which main() has called, each with a frame pointer; prints a line and waits for the next one.
 */
#include <stdio.h>

#define FRAME __attribute__((noinline, noclone, optimize("no-omit-frame-pointer", "no-optimize-sibling-calls")))

FRAME long counted_function(volatile long *sum)
{
	volatile long one = 1; /* something on the stack, or it would have no frame */

	return *sum += one;
}

FRAME long by_left(volatile long *sum, long times)
{
	while (times-- > 0)
		counted_function(sum);
	return *sum;
}

FRAME long by_right(volatile long *sum, long times)
{
	while (times-- > 0)
		counted_function(sum);
	return *sum + 1; /* another function than the one above */
}

int FRAME main(void)
{
	volatile long sum = 0;
	char line[64];
	long left, right;

	while (fgets(line, sizeof(line), stdin)) {
		if (sscanf(line, "%ld %ld", &left, &right) != 2)
			return 2;
		by_left(&sum, left);
		by_right(&sum, right);
		printf("%ld\n", sum);
		fflush(stdout);
	}
	return 0;
}
