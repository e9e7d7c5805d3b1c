// SPDX-License-Identifier: Apache-2.0
/* sleeper ROUNDS USECS SPIN: for each line on standard input sleeps ROUNDS times for USECS, spinning SPIN
 * microseconds after each sleep; prints a line and waits for the next one.  Pin it with taskset.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int argc, char **argv)
{
	char line[64];

	if (argc != 4)
		return 2;
	while (fgets(line, sizeof(line), stdin)) {
		for (long i = 0; i < atol(argv[1]); i++) {
			struct timespec t = {0, atol(argv[2]) * 1000};
			long long end;

			nanosleep(&t, NULL);
			for (end = now() + atol(argv[3]) * 1000LL; now() < end;)
				;
		}
		puts("done");
		fflush(stdout);
	}
	return 0;
}
