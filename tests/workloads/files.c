// SPDX-License-Identifier: Apache-2.0
/* Opens files as told on standard input, one command a line, and answers each with "RESULT ERRNO".
 *
 *   open HEX FLAGS MODE            open(2)
 *   openat DIR HEX FLAGS MODE      openat(2); DIR is a descriptor, -100 the working directory
 *   openat2 DIR HEX FLAGS MODE     openat2(2)
 *   chdir HEX | close FD | pid
 *
 * Paths are spelled in hexadecimal, numbers in decimal.  Linked statically: it opens nothing but what it is told to,
 * so a test knows the number of its opens exactly.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static char path[2 * 4096];

static void unhex(const char *hex)
{
	size_t n = 0;

	for (; hex[0] && hex[1] && n < sizeof(path) - 1; hex += 2) {
		char byte[3] = {hex[0], hex[1], 0};
		path[n++] = (char)strtol(byte, NULL, 16);
	}
	path[n] = 0;
}

int main(void)
{
	static char line[4 * 4096], hex[4 * 4096];
	char word[16], *rest;
	long dir, flags, mode;
	int length;

	while (fgets(line, sizeof(line), stdin)) {
		long result = -1;

		errno = 0;
		if (sscanf(line, "%15s%n", word, &length) != 1)
			return 2;
		rest = line + length;
		if (!strcmp(word, "open") && sscanf(rest, "%s %ld %ld", hex, &flags, &mode) == 3) {
			unhex(hex);
#ifdef SYS_open
			result = syscall(SYS_open, path, (int)flags, (int)mode);
#else
			errno = ENOSYS;
#endif
		} else if (!strcmp(word, "openat") && sscanf(rest, "%ld %s %ld %ld", &dir, hex, &flags, &mode) == 4) {
			unhex(hex);
			result = syscall(SYS_openat, (int)dir, path, (int)flags, (int)mode);
		} else if (!strcmp(word, "openat2") && sscanf(rest, "%ld %s %ld %ld", &dir, hex, &flags, &mode) == 4) {
			struct open_how how = {.flags = (unsigned long)flags, .mode = (unsigned long)mode};

			unhex(hex);
			result = syscall(SYS_openat2, (int)dir, path, &how, sizeof(how));
		} else if (!strcmp(word, "chdir") && sscanf(rest, "%s", hex) == 1) {
			unhex(hex);
			result = chdir(path);
		} else if (!strcmp(word, "close") && sscanf(rest, "%ld", &dir) == 1) {
			result = close((int)dir);
		} else if (!strcmp(word, "pid")) {
			result = getpid();
		} else {
			return 2;
		}
		printf("%ld %d\n", result, errno);
		fflush(stdout);
	}
	return 0;
}
