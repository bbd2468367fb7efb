/*
 * Makes a guest's ring a Unix socket: what a client of the socket sends goes on the ring, what comes on the ring goes to
 * the client. Serves one client after another, until standard input ends.
 *   ring-proxy DIRECTORY DOMID SOCKET
 */
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "guest-ring.h"

static uint8_t outgoing[1 << 16], incoming[GUEST_RING_BYTES];

static void drain(int fd)
{
	char bytes[256];

	while (read(fd, bytes, sizeof(bytes)) > 0)
		;
}

static void serve(struct guest_ring *ring, int client)
{
	size_t waiting = 0;

	for (;;) {
		struct pollfd fds[] = {
			{ .fd = client, .events = waiting < sizeof(outgoing) ? POLLIN : 0 },
			{ .fd = ring->events, .events = POLLIN },
			{ .fd = 0, .events = POLLIN },
		};
		size_t done;

		if (poll(fds, 3, -1) < 0 || fds[2].revents)
			exit(0);
		if (fds[1].revents)
			drain(ring->events);
		if (fds[0].revents & (POLLIN | POLLHUP | POLLERR)) {
			ssize_t got = read(client, outgoing + waiting, sizeof(outgoing) - waiting);

			if (got <= 0)
				return;
			waiting += got;
		}
		done = guest_ring_put(ring, outgoing, waiting);
		memmove(outgoing, outgoing + done, waiting - done);
		waiting -= done;
		while ((done = guest_ring_take(ring, incoming, sizeof(incoming))) > 0)
			if (write(client, incoming, done) < 0)
				return;
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct guest_ring ring;
	int listener, client;

	if (argc != 4 || guest_ring_open(&ring, argv[1], atoi(argv[2])) < 0) {
		fprintf(stderr, "usage: ring-proxy DIRECTORY DOMID SOCKET\n");
		return 2;
	}
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", argv[3]);
	listener = socket(AF_UNIX, SOCK_STREAM, 0);
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(listener, 1) < 0) {
		perror(argv[3]);
		return 1;
	}
	puts("ready");
	fflush(stdout);
	for (;;) {
		struct pollfd fds[] = { { .fd = listener, .events = POLLIN }, { .fd = 0, .events = POLLIN } };

		if (poll(fds, 2, -1) < 0 || fds[1].revents)
			break;
		client = accept(listener, NULL, NULL);
		if (client < 0)
			break;
		serve(&ring, client);
		close(client);
	}
	return 0;
}
