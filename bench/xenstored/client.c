/*
 * The load of `npm run bench -- xenstored`: plain blocking clients of a xenstored, so that the daemon and not its client
 * is what is measured. Prints one line of JSON: {"rate": .., "operations": .., "p50": .., "p99": ..}, operations a second, in all, and
 * microseconds; a test of one long operation prints {"ms": ..}.
 *   client TEST SOCKET SECONDS [DIRECTORY]
 * DIRECTORY: the pages of guests, for tests over rings (fakexen.h).
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include "../../conformance/lib/xen/guest-ring.h"

enum { DIRECTORY = 1, READ = 2, WATCH = 4, TXN_START = 6, TXN_END = 7, INTRODUCE = 8, WRITE = 11, MKDIR = 12, RM = 13,
       SET_PERMS = 14, EVENT = 15, ERROR = 16 };

#define PAYLOAD_MAX 4096
#define MAX_SAMPLES (8 << 20)
#define WATCHERS 100
#define CLIENTS 100
#define RINGS 20
#define IN_FLIGHT 16
#define TREE_DIRS 100
#define TREE_NODES 10000
#define DOMAINS 10000
#define LISTED 1000

struct header { uint32_t type, req_id, tx_id, len; };

struct peer {
	int fd;
	struct guest_ring *ring;
	uint8_t in[1 << 16];
	size_t start, end;
};

static const char *socket_path, *ring_directory;
static double seconds;
static uint32_t *samples;
static size_t nr_samples;
/* All, the warming-up included. */
static size_t operations;

static void fail(const char *what)
{
	fprintf(stderr, "client: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static struct peer *dial(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct peer *peer = calloc(1, sizeof(*peer));

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path);
	peer->fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (connect(peer->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		fail(socket_path);
	return peer;
}

static struct peer *dial_ring(int domid)
{
	struct peer *peer = calloc(1, sizeof(*peer));

	peer->ring = calloc(1, sizeof(*peer->ring));
	if (guest_ring_open(peer->ring, ring_directory, domid) < 0)
		fail("ring");
	peer->fd = peer->ring->events;
	return peer;
}

static void put_bytes(struct peer *peer, const uint8_t *bytes, size_t length)
{
	while (length > 0) {
		ssize_t done = peer->ring ? (ssize_t)guest_ring_put(peer->ring, bytes, length)
					  : write(peer->fd, bytes, length);

		if (done < 0)
			fail("write");
		bytes += done;
		length -= done;
	}
}

static size_t pack(uint8_t *to, uint32_t type, uint32_t tx, const void *payload, size_t length)
{
	struct header header = { type, 1, tx, length };

	memcpy(to, &header, sizeof(header));
	memcpy(to + sizeof(header), payload, length);
	return sizeof(header) + length;
}

static void put(struct peer *peer, uint32_t type, uint32_t tx, const void *payload, size_t length)
{
	uint8_t bytes[sizeof(struct header) + PAYLOAD_MAX];

	put_bytes(peer, bytes, pack(bytes, type, tx, payload, length));
}

/* Takes what there is, at least one byte unless `poll`. */
static int fill(struct peer *peer, int poll)
{
	ssize_t got;

	if (peer->start == peer->end)
		peer->start = peer->end = 0;
	if (sizeof(peer->in) - peer->end < 2 * PAYLOAD_MAX) {
		memmove(peer->in, peer->in + peer->start, peer->end - peer->start);
		peer->end -= peer->start;
		peer->start = 0;
	}
	if (!peer->ring) {
		got = read(peer->fd, peer->in + peer->end, sizeof(peer->in) - peer->end);
		if (got <= 0)
			fail("the daemon has hung up");
	} else {
		char bells[64];

		while (read(peer->fd, bells, sizeof(bells)) > 0)
			;
		got = guest_ring_take(peer->ring, peer->in + peer->end, sizeof(peer->in) - peer->end);
		if (got == 0 && !poll)
			fail("only for epoll");
	}
	peer->end += got;
	return got > 0;
}

/* The next whole packet that has been taken, or null. */
static struct header *next(struct peer *peer)
{
	struct header *header = (struct header *)(peer->in + peer->start);
	size_t have = peer->end - peer->start;

	if (have < sizeof(*header) || have < sizeof(*header) + header->len)
		return NULL;
	peer->start += sizeof(*header) + header->len;
	return header;
}

static struct header *wait_for(struct peer *peer)
{
	struct header *header;

	while (!(header = next(peer)))
		fill(peer, 0);
	return header;
}

static struct header *must(struct header *header)
{
	if (header->type == ERROR) {
		fprintf(stderr, "client: answered %s\n", (char *)(header + 1));
		exit(1);
	}
	return header;
}

static struct header *ask(struct peer *peer, uint32_t type, uint32_t tx, const void *payload, size_t length)
{
	put(peer, type, tx, payload, length);
	return must(wait_for(peer));
}

#define ASK(peer, type, tx, text) ask(peer, type, tx, text, sizeof(text))

static void write_node(struct peer *peer, const char *path, const char *value)
{
	char payload[PAYLOAD_MAX];
	size_t length = strlen(path) + 1;

	memcpy(payload, path, length);
	memcpy(payload + length, value, strlen(value));
	ask(peer, WRITE, 0, payload, length + strlen(value));
}

static void sample(double from)
{
	if (nr_samples < MAX_SAMPLES)
		samples[nr_samples++] = (now() - from) * 1e9;
}

static int by_size(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void report(double rate)
{
	qsort(samples, nr_samples, sizeof(*samples), by_size);
	printf("{\"rate\":%.1f,\"operations\":%zu", rate, operations);
	if (nr_samples > 0)
		printf(",\"p50\":%.2f,\"p99\":%.2f", samples[nr_samples / 2] / 1e3, samples[nr_samples * 99 / 100] / 1e3);
	printf("}\n");
}

/* Runs `operation` for the time, after a tenth of it to warm up. */
static void repeat(struct peer *peer, void (*operation)(struct peer *peer))
{
	double start = now(), from, end = start + seconds * 0.1;
	size_t count = 0;

	for (; now() < end; operations++)
		operation(peer);
	start = from = now();
	end = start + seconds;
	while (from < end) {
		operation(peer);
		sample(from);
		count++;
		operations++;
		from = now();
	}
	report(count / (from - start));
}

static void op_read(struct peer *peer)
{
	ASK(peer, READ, 0, "/bench/value");
}

static void op_write(struct peer *peer)
{
	ask(peer, WRITE, 0, "/bench/value\0y", 14);
}

static void op_write_2000(struct peer *peer)
{
	static char payload[2011] = "/bench/big";

	memset(payload + 11, 'L', 2000);
	ask(peer, WRITE, 0, payload, sizeof(payload));
}

static void op_mkdir_rm(struct peer *peer)
{
	ASK(peer, MKDIR, 0, "/bench/made");
	ASK(peer, RM, 0, "/bench/made");
}

static uint32_t begin(struct peer *peer)
{
	return strtoul((char *)(ask(peer, TXN_START, 0, "", 1) + 1), NULL, 10);
}

static void op_transaction(struct peer *peer)
{
	ASK(peer, TXN_END, begin(peer), "T");
}

static void op_modify(struct peer *peer)
{
	uint32_t tx = begin(peer);

	ASK(peer, READ, tx, "/bench/value");
	ask(peer, WRITE, tx, "/bench/value\0z", 14);
	ASK(peer, TXN_END, tx, "T");
}

static void op_in_flight(struct peer *peer)
{
	static uint8_t batch[IN_FLIGHT * 64];
	static size_t length;
	int i;

	for (i = 0; length == 0 || (i > 0 && i < IN_FLIGHT); i++)
		length += pack(batch + length, READ, 0, "/bench/value", 13);
	put_bytes(peer, batch, length);
	for (i = 0; i < IN_FLIGHT; i++)
		must(wait_for(peer));
}

static struct peer *watchers[WATCHERS];
static int nr_watchers;

static void add_watchers(int count)
{
	for (nr_watchers = 0; nr_watchers < count; nr_watchers++) {
		struct peer *peer = watchers[nr_watchers] = dial();

		put(peer, WATCH, 0, "/bench/watched\0token", 21);
		/* The answer and the first event, in whichever order. */
		must(wait_for(peer));
		must(wait_for(peer));
	}
}

static void op_event(struct peer *peer)
{
	int i;

	put(peer, WRITE, 0, "/bench/watched\0v", 16);
	for (i = 0; i < nr_watchers; i++)
		if (wait_for(watchers[i])->type != EVENT)
			fail("no event");
	must(wait_for(peer));
}

/* Each of `count` peers has one request under way at all times. */
static void parallel(struct peer **peers, int count, uint32_t type, const char *payload, size_t length)
{
	struct epoll_event events[CLIENTS];
	int epoll = epoll_create1(0), i, n;
	double start = 0, end = 0, warm = now() + seconds * 0.1, *sent = calloc(count, sizeof(*sent));
	size_t done = 0;

	for (i = 0; i < count; i++) {
		struct epoll_event event = { .events = EPOLLIN, .data.u32 = i };

		epoll_ctl(epoll, EPOLL_CTL_ADD, peers[i]->fd, &event);
		sent[i] = now();
		put(peers[i], type, 0, payload, length);
	}
	while (end == 0 || now() < end) {
		n = epoll_wait(epoll, events, CLIENTS, 5000);
		if (n <= 0)
			fail("nothing is answered");
		if (end == 0 && now() > warm) {
			start = now();
			end = start + seconds;
			done = nr_samples = 0;
		}
		for (i = 0; i < n; i++) {
			struct peer *peer = peers[events[i].data.u32];

			fill(peer, 1);
			while (next(peer)) {
				sample(sent[events[i].data.u32]);
				done++;
				operations++;
				sent[events[i].data.u32] = now();
				put(peer, type, 0, payload, length);
			}
		}
	}
	report(done / (now() - start));
}

static void parallel_sockets(void)
{
	struct peer *peers[CLIENTS];
	int i;

	for (i = 0; i < CLIENTS; i++)
		peers[i] = dial();
	parallel(peers, CLIENTS, READ, "/bench/value", 13);
}

static void rings(struct peer *dom0, uint32_t type)
{
	struct peer *peers[RINGS];
	char text[64];
	int i;

	for (i = 0; i < RINGS; i++) {
		int domid = i + 1, length;

		length = sprintf(text, "/local/domain/%d", domid);
		ask(dom0, MKDIR, 0, text, length + 1);
		length += 1 + sprintf(text + length + 1, "n%d", domid);
		ask(dom0, SET_PERMS, 0, text, length + 1);
		length = sprintf(text, "%d%c1%c1", domid, 0, 0);
		ask(dom0, INTRODUCE, 0, text, length + 1);
		peers[i] = dial_ring(domid);
		put(peers[i], WRITE, 0, "data\0v", 6);
	}
	for (i = 0; i < RINGS; i++)
		while (!next(peers[i]))
			fill(peers[i], 1);
	if (type == READ)
		parallel(peers, RINGS, READ, "data", 5);
	else
		parallel(peers, RINGS, WRITE, "data\0w", 6);
}

static void make_tree(struct peer *peer)
{
	char path[64];
	int i;

	for (i = 0; i < TREE_NODES; i++) {
		sprintf(path, "/bench/tree/d%d/n%d", i % TREE_DIRS, i);
		write_node(peer, path, "v");
	}
}

static void create(struct peer *peer)
{
	double start = now();

	make_tree(peer);
	operations = TREE_NODES;
	report(TREE_NODES / (now() - start));
}

static void remove_tree(struct peer *peer)
{
	double start;

	make_tree(peer);
	start = now();
	ASK(peer, RM, 0, "/bench/tree");
	printf("{\"ms\":%.3f}\n", (now() - start) * 1e3);
}

/* A domain as a toolstack writes it: 20 nodes with those between. */
static void make_domain(struct peer *peer, int domid)
{
	static const char *const names[] = {
		"domid", "name", "vm", "memory/target", "memory/static-max", "cpu/0/availability", "console/limit",
		"console/type", "store/ring-ref", "store/port", "device/vbd/51712/backend",
	};
	char path[128], value[64];
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(*names); i++) {
		snprintf(path, sizeof(path), "/local/domain/%d/%s", domid, names[i]);
		snprintf(value, sizeof(value), "value-%d-%zu", domid, i);
		write_node(peer, path, value);
	}
}

static void domains(struct peer *peer)
{
	int i;

	for (i = 1; i <= DOMAINS; i++)
		make_domain(peer, i);
	printf("{\"domains\":%d}\n", DOMAINS);
}

static double list(struct peer *peer, int count)
{
	static const char *const names[] = { "name", "domid", "memory/target" };
	char path[128];
	double start = now();
	size_t j;
	int i;

	ASK(peer, DIRECTORY, 0, "/local/domain");
	for (i = 1; i <= count; i++)
		for (j = 0; j < sizeof(names) / sizeof(*names); j++)
			ask(peer, READ, 0, path, 1 + sprintf(path, "/local/domain/%d/%s", i, names[j]));
	return now() - start;
}

/* Time a domain of 1,000, and what it is to the time a domain of 100. */
static void listing(struct peer *peer)
{
	double few = 0, many = 0;
	int i;

	for (i = 1; i <= LISTED / 10; i++)
		make_domain(peer, i);
	for (i = 0; i < 20; i++)
		few += list(peer, LISTED / 10) / 20;
	for (; i <= LISTED; i++)
		make_domain(peer, i);
	for (i = 0; i < 5; i++)
		many += list(peer, LISTED) / 5;
	printf("{\"ms\":%.3f,\"growth\":%.3f}\n", many * 1e3, many / few / 10);
}

int main(int argc, char **argv)
{
	static const struct { const char *name; void (*operation)(struct peer *peer); } repeated[] = {
		{ "read", op_read }, { "write", op_write }, { "write-2000", op_write_2000 }, { "mkdir-rm", op_mkdir_rm },
		{ "transaction", op_transaction }, { "modify", op_modify }, { "in-flight", op_in_flight },
	};
	struct peer *peer;
	size_t i;

	if (argc < 4) {
		fprintf(stderr, "usage: client TEST SOCKET SECONDS [DIRECTORY]\n");
		return 2;
	}
	socket_path = argv[2];
	seconds = atof(argv[3]);
	ring_directory = argc > 4 ? argv[4] : ".";
	samples = malloc(MAX_SAMPLES * sizeof(*samples));
	peer = dial();
	write_node(peer, "/bench/value", "x");
	for (i = 0; i < sizeof(repeated) / sizeof(*repeated); i++)
		if (strcmp(argv[1], repeated[i].name) == 0)
			repeat(peer, repeated[i].operation);
	if (strcmp(argv[1], "event") == 0 || strcmp(argv[1], "events-100") == 0) {
		add_watchers(argv[1][5] ? WATCHERS : 1);
		repeat(peer, op_event);
	}
	if (strcmp(argv[1], "parallel-100") == 0)
		parallel_sockets();
	if (strcmp(argv[1], "rings-read") == 0)
		rings(peer, READ);
	if (strcmp(argv[1], "rings-write") == 0)
		rings(peer, WRITE);
	if (strcmp(argv[1], "create") == 0)
		create(peer);
	if (strcmp(argv[1], "rm") == 0)
		remove_tree(peer);
	if (strcmp(argv[1], "domains") == 0)
		domains(peer);
	if (strcmp(argv[1], "list") == 0)
		listing(peer);
	return 0;
}
