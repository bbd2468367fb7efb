/* Whole reads of standard input and whole writes of standard output, for the native runners. */
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

static void read_all(void *into, size_t bytes)
{
	for (size_t done = 0; done < bytes;) {
		ssize_t n = read(0, (uint8_t *)into + done, bytes - done);
		if (n <= 0)
			_exit(2);
		done += (size_t)n;
	}
}

static void write_all(const void *from, size_t bytes)
{
	for (size_t done = 0; done < bytes;) {
		ssize_t n = write(1, (const uint8_t *)from + done, bytes - done);
		if (n <= 0)
			_exit(3);
		done += (size_t)n;
	}
}
