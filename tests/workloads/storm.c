// SPDX-License-Identifier: Apache-2.0
/* storm SECONDS RATE PATH [THREADS]: waits for a line on standard input, then opens PATH (which need not exist) for
 * SECONDS, RATE times a second (0: as fast as it can) with all THREADS (1) together, and prints how many opens it made.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MOST 64

static double seconds, rate, start;
static const char *path;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void *work(void *made)
{
	unsigned long n = 0;
	double t;

	while ((t = now() - start) < seconds) {
		if (rate > 0 && (double)n > t * rate)
			continue; /* ahead of time */
		for (int i = 0; i < 64; i++) {
			long fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY, 0);

			if (fd >= 0)
				close((int)fd);
			n++;
		}
	}
	*(unsigned long *)made = n;
	return NULL;
}

int main(int argc, char **argv)
{
	int threads = argc > 4 ? atoi(argv[4]) : 1, c;
	pthread_t others[MOST];
	unsigned long made[MOST] = { 0 }, sum = 0;

	if (argc < 4 || threads < 1 || threads > MOST)
		return 2;
	seconds = atof(argv[1]);
	rate = atof(argv[2]) / threads;
	path = argv[3];
	while ((c = getchar()) != '\n' && c != EOF)
		;
	start = now();
	for (int i = 1; i < threads; i++)
		if (pthread_create(&others[i], NULL, work, &made[i]))
			return 1;
	work(&made[0]);
	for (int i = 0; i < threads; i++) {
		if (i)
			pthread_join(others[i], NULL);
		sum += made[i];
	}
	printf("%lu\n", sum);
	return 0;
}
