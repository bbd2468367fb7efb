/*
 * A client that does nothing but ask, a thousand times a second, while others misbehave. Until standard input ends; then prints
 * how often it was answered and what the longest wait was: {"answers": .., "worstMs": ..}
 *   witness socket PATH | witness ring DIRECTORY DOMID
 */
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include "guest-ring.h"

#define PAUSE_MS 1
#define GIVE_UP_MS 30000

static struct guest_ring ring;
static int fd, on_ring;

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static void finish(long answers, double worst, const char *why)
{
	printf("{\"answers\":%ld,\"worstMs\":%.3f,\"why\":\"%s\"}\n", answers, worst, why);
	exit(0);
}

static size_t take(uint8_t *bytes, size_t max)
{
	char bells[64];
	ssize_t got;

	if (!on_ring) {
		got = read(fd, bytes, max);
		return got > 0 ? got : 0;
	}
	while (read(fd, bells, sizeof(bells)) > 0)
		;
	return guest_ring_take(&ring, bytes, max);
}

int main(int argc, char **argv)
{
	static const uint32_t header[4] = { 2, 1, 0, 1 };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	uint8_t request[17], answer[4096];
	double worst = 0;
	long answers = 0;

	on_ring = argc == 4;
	if (on_ring) {
		if (guest_ring_open(&ring, argv[2], atoi(argv[3])) < 0)
			return 1;
		fd = ring.events;
	} else {
		fd = socket(AF_UNIX, SOCK_STREAM, 0);
		snprintf(address.sun_path, sizeof(address.sun_path), "%s", argv[2]);
		if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
			return 1;
	}
	/* READ of an empty path: an error is an answer, too. */
	memcpy(request, header, sizeof(header));
	request[16] = 0;
	for (;; answers++) {
		struct pollfd end = { .fd = 0, .events = POLLIN };
		double start = now_ms(), waited;
		size_t got = 0, want = sizeof(header);

		if (on_ring)
			guest_ring_put(&ring, request, sizeof(request));
		else if (write(fd, request, sizeof(request)) < 0)
			finish(answers, worst, "hung up");
		while (got < want) {
			struct pollfd ready = { .fd = fd, .events = POLLIN };

			if (poll(&ready, 1, GIVE_UP_MS) <= 0)
				finish(answers, GIVE_UP_MS, "no answer");
			got += take(answer + got, sizeof(answer) - got);
			if (!on_ring && got == 0)
				finish(answers, worst, "hung up");
			if (got >= sizeof(header))
				want = sizeof(header) + ((uint32_t *)answer)[3];
		}
		waited = now_ms() - start;
		if (waited > worst)
			worst = waited;
		if (poll(&end, 1, PAUSE_MS) > 0)
			finish(answers, worst, "");
	}
}
