// SPDX-License-Identifier: Apache-2.0
/* storm SECONDS RATE PATH: waits for a line on standard input, then opens PATH (which need not exist) for SECONDS,
 * RATE times a second (0: as fast as it can), and prints how many opens it made.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	double seconds = argc > 3 ? atof(argv[1]) : 0, rate = argc > 3 ? atof(argv[2]) : 0, start, t;
	unsigned long made = 0;
	int c;

	if (argc != 4)
		return 2;
	while ((c = getchar()) != '\n' && c != EOF)
		;
	start = now();
	while ((t = now() - start) < seconds) {
		if (rate > 0 && (double)made > t * rate)
			continue; /* ahead of time */
		for (int i = 0; i < 64; i++) {
			long fd = syscall(SYS_openat, AT_FDCWD, argv[3], O_RDONLY, 0);

			if (fd >= 0)
				close((int)fd);
			made++;
		}
	}
	printf("%lu\n", made);
	return 0;
}
