/*
 * A guest's end of a xenstore ring (docs/misc/xenstore-ring.txt) on the pages and FIFOs of fakexen.h.
 */
#ifndef GUEST_RING_H
#define GUEST_RING_H

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "fakexen.h"

#define GUEST_RING_BYTES 1024

struct guest_ring {
	volatile struct {
		uint8_t req[GUEST_RING_BYTES];
		uint8_t rsp[GUEST_RING_BYTES];
		uint32_t req_cons, req_prod;
		uint32_t rsp_cons, rsp_prod;
	} *page;
	/* Readable after an event. */
	int events;
	int doorbell;
	uint32_t port;
};

static int guest_ring_open(struct guest_ring *ring, const char *directory, int domid)
{
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s/page.%d", directory, domid);
	fd = open(path, O_RDWR);
	if (fd < 0)
		return -1;
	ring->page = mmap(NULL, FAKEXEN_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	snprintf(path, sizeof(path), "%s/events.%d", directory, domid);
	ring->events = open(path, O_RDWR | O_NONBLOCK);
	snprintf(path, sizeof(path), "%s/events", directory);
	ring->doorbell = open(path, O_RDWR);
	ring->port = FAKEXEN_PORT + domid;
	return ring->page == MAP_FAILED || ring->events < 0 || ring->doorbell < 0 ? -1 : 0;
}

static void guest_ring_notify(struct guest_ring *ring)
{
	if (write(ring->doorbell, &ring->port, sizeof(ring->port)) < 0)
		perror("doorbell");
}

/* Puts as many bytes as there is room for and notifies; the number put. */
static size_t guest_ring_put(struct guest_ring *ring, const uint8_t *bytes, size_t length)
{
	uint32_t prod = ring->page->req_prod;
	size_t room = GUEST_RING_BYTES - (prod - ring->page->req_cons), i;

	if (length > room)
		length = room;
	for (i = 0; i < length; i++)
		ring->page->req[(prod + i) % GUEST_RING_BYTES] = bytes[i];
	__sync_synchronize();
	ring->page->req_prod = prod + length;
	if (length > 0)
		guest_ring_notify(ring);
	return length;
}

/* Takes what is there and notifies; the number taken. */
static size_t guest_ring_take(struct guest_ring *ring, uint8_t *bytes, size_t max)
{
	uint32_t cons = ring->page->rsp_cons;
	size_t used = ring->page->rsp_prod - cons, i;

	__sync_synchronize();
	if (used > max)
		used = max;
	for (i = 0; i < used; i++)
		bytes[i] = ring->page->rsp[(cons + i) % GUEST_RING_BYTES];
	__sync_synchronize();
	ring->page->rsp_cons = cons + used;
	if (used > 0)
		guest_ring_notify(ring);
	return used;
}

#endif
