/*
 * gio: disk and network work for a Linux guest, with what it moved checked. Linked statically, compiled where it is needed.
 *   gio seq read|write direct|buffered FILE BLOCK MIB     sequential; a buffered or direct write ends with fdatasync
 *   gio rand FILE BLOCK DEPTH SECONDS SPAN_MIB            random O_DIRECT reads, DEPTH of them at a time
 *   gio fsx FILE SPAN_KIB SECONDS SEED DEPTH [discard]    random reads, writes and flushes against a model in memory
 *   gio shared FILE SPAN_KIB SECONDS SEED DEPTH FROM      the same; counts only what ends in the SECONDS from FROM (seconds of the epoch) on,
 *                                                         so that guests that began at different times are compared over one time
 *   gio fill FILE MIB SEED, gio check FILE MIB SEED       a pattern that differs at every place
 *   gio flushes FILE COUNT                                numbered 4 KiB blocks, each flushed before `flushed N` is printed
 *   gio serve PORT                                        answers the three below, each connection in a process
 *   gio send HOST PORT MIB SEED, gio get HOST PORT MIB SEED      the pattern over TCP, checked by its reader; seed 0: unchecked
 *   gio turns HOST PORT COUNT                             64-byte messages there and back; prints the median
 * Each prints `GIO ops=N bytes=N ns=N` at its end, or says what is wrong and exits with 1.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MIB (1ul << 20)
#define SECTOR 512ul
#define CHUNK (256ul << 10)
#define MAX_DEPTH 64

static void die(const char *what) {
  printf("GIO-FAIL %s: %s\n", what, strerror(errno));
  exit(1);
}

static void wrong(const char *what, uint64_t at) {
  printf("GIO-FAIL %s at %llu\n", what, (unsigned long long)at);
  exit(1);
}

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void figure(uint64_t ops, uint64_t bytes, uint64_t ns) {
  printf("GIO ops=%llu bytes=%llu ns=%llu\n", (unsigned long long)ops, (unsigned long long)bytes, (unsigned long long)ns);
}

static void *buffer(size_t bytes) {
  void *made;
  if (posix_memalign(&made, 4096, bytes)) die("memory");
  memset(made, 0, bytes);
  return made;
}

/* The 32-bit word number `i` of the pattern of `seed`. */
static uint32_t word(uint32_t i, uint32_t seed) {
  uint32_t v = (i + seed) * 0x9e3779b1u;
  v ^= v >> 15;
  v *= 0x85ebca77u;
  return v ^ (v >> 13);
}

static void pattern(void *to, size_t bytes, uint64_t at, uint32_t seed) {
  uint32_t *words = to, first = (uint32_t)(at / 4);
  for (size_t i = 0; i < bytes / 4; i++) words[i] = word(first + (uint32_t)i, seed);
}

/* The offset of the first byte that is not the pattern's; -1: all are. */
static int64_t differs(const void *from, size_t bytes, uint64_t at, uint32_t seed) {
  const uint32_t *words = from;
  uint32_t first = (uint32_t)(at / 4);
  for (size_t i = 0; i < bytes / 4; i++)
    if (words[i] != word(first + (uint32_t)i, seed)) return (int64_t)(i * 4);
  return -1;
}

static uint64_t random64(void) {
  static uint64_t state = 88172645463325252ull;
  state ^= state << 13;
  state ^= state >> 7;
  return state ^= state << 17;
}

static int seq(char **a) {
  int writes = !strcmp(a[0], "write"), direct = !strcmp(a[1], "direct");
  size_t block = strtoul(a[3], 0, 0);
  uint64_t total = strtoull(a[4], 0, 0) * MIB, ops = 0;
  int fd = open(a[2], (writes ? O_WRONLY : O_RDONLY) | (direct ? O_DIRECT : 0));
  if (fd < 0) die(a[2]);
  char *data = buffer(block);
  pattern(data, block, 0, 7);
  uint64_t start = now();
  for (uint64_t done = 0; done < total; done += block, ops++) {
    ssize_t n = writes ? pwrite(fd, data, block, (off_t)done) : pread(fd, data, block, (off_t)done);
    if (n != (ssize_t)block) die("transfer");
  }
  if (writes && fdatasync(fd)) die("fdatasync");
  figure(ops, total, now() - start);
  return 0;
}

/* Asynchronous I/O of the kernel (io_submit(2)): a slot a request. */
struct slot {
  struct iocb iocb;
  char *data;
  int busy;
};
static struct slot slots[MAX_DEPTH];
static aio_context_t context;

static void start_slots(int depth, size_t bytes) {
  if (depth < 1 || depth > MAX_DEPTH) wrong("depth", (uint64_t)depth);
  if (syscall(SYS_io_setup, MAX_DEPTH, &context)) die("io_setup");
  for (int i = 0; i < depth; i++) slots[i].data = buffer(bytes);
}

static void submit(int i, int fd, int writes, uint64_t offset, size_t bytes) {
  struct slot *s = &slots[i];
  struct iocb *one = &s->iocb;
  memset(one, 0, sizeof *one);
  one->aio_data = (uint64_t)i;
  one->aio_lio_opcode = writes ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD;
  one->aio_fildes = (uint32_t)fd;
  one->aio_buf = (uint64_t)(uintptr_t)s->data;
  one->aio_nbytes = bytes;
  one->aio_offset = (int64_t)offset;
  s->busy = 1;
  if (syscall(SYS_io_submit, context, 1, &one) != 1) die("io_submit");
}

/* Waits for at least one; calls `done` for each. */
static void reap(void (*done)(int slot)) {
  struct io_event events[MAX_DEPTH];
  long n;
  do n = syscall(SYS_io_getevents, context, 1, MAX_DEPTH, events, 0);
  while (n < 0 && errno == EINTR);
  if (n < 1) die("io_getevents");
  for (long k = 0; k < n; k++) {
    int i = (int)events[k].data;
    struct slot *s = &slots[i];
    if (events[k].res != (int64_t)s->iocb.aio_nbytes) {
      errno = events[k].res < 0 ? (int)-events[k].res : EIO;
      printf("offset %lld, %llu bytes, %s\n", (long long)s->iocb.aio_offset, (unsigned long long)s->iocb.aio_nbytes,
             s->iocb.aio_lio_opcode == IOCB_CMD_PWRITE ? "write" : "read");
      die("request");
    }
    s->busy = 0;
    done(i);
  }
}

static uint64_t rand_until, rand_ops, rand_blocks;
static size_t rand_block;
static int rand_fd, rand_busy;
static void next_read(int i) { submit(i, rand_fd, 0, random64() % rand_blocks * rand_block, rand_block); }
static void read_done(int i) {
  rand_ops++;
  if (now() < rand_until) next_read(i);
  else rand_busy--;
}

static int rand_reads(char **a) {
  rand_block = strtoul(a[1], 0, 0);
  int depth = atoi(a[2]);
  rand_blocks = strtoull(a[4], 0, 0) * MIB / rand_block;
  rand_fd = open(a[0], O_RDONLY | O_DIRECT);
  if (rand_fd < 0) die(a[0]);
  start_slots(depth, rand_block);
  uint64_t start = now();
  rand_until = start + strtoull(a[3], 0, 0) * 1000000000u;
  rand_busy = depth;
  for (int i = 0; i < depth; i++) next_read(i);
  while (rand_busy) reap(read_done);
  figure(rand_ops, rand_ops * rand_block, now() - start);
  return 0;
}

static char *model;
static uint64_t fsx_ops, fsx_bytes, count_from, count_until = UINT64_MAX;
static void compare(int i) {
  struct iocb *one = &slots[i].iocb;
  uint64_t at_ns = now();
  if (at_ns >= count_from && at_ns < count_until) {
    fsx_ops++;
    fsx_bytes += one->aio_nbytes;
  }
  if (one->aio_lio_opcode == IOCB_CMD_PWRITE) return;
  const char *expected = model + one->aio_offset;
  if (!memcmp(slots[i].data, expected, one->aio_nbytes)) return;
  size_t at = 0;
  while (slots[i].data[at] == expected[at]) at++;
  printf("read of %llu bytes at %lld, byte %zu is %02x instead of %02x\n", (unsigned long long)one->aio_nbytes,
         (long long)one->aio_offset, at, (unsigned char)slots[i].data[at], (unsigned char)expected[at]);
  wrong("mismatch", (uint64_t)one->aio_offset + at);
}

static int overlaps(int depth, uint64_t offset, uint64_t bytes) {
  for (int i = 0; i < depth; i++) {
    uint64_t from = (uint64_t)slots[i].iocb.aio_offset, size = slots[i].iocb.aio_nbytes;
    if (slots[i].busy && offset < from + size && from < offset + bytes) return 1;
  }
  return 0;
}

static int any_busy(int depth) {
  for (int i = 0; i < depth; i++)
    if (slots[i].busy) return 1;
  return 0;
}

/* The monotonic time of a second of the epoch; 0 for one before this machine's start. */
static uint64_t monotonic_of(uint64_t epoch) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  int64_t ahead = ((int64_t)epoch - t.tv_sec) * 1000000000 - t.tv_nsec, at = (int64_t)now() + ahead;
  return at > 0 ? (uint64_t)at : 0;
}

static int fsx(char **a, int discards, const char *from) {
  uint64_t span = strtoull(a[1], 0, 0) << 10;
  uint32_t seed = (uint32_t)atoi(a[3]), flushes = 0;
  int depth = atoi(a[4]), fd = open(a[0], O_RDWR | O_DIRECT);
  if (fd < 0) die(a[0]);
  model = buffer(span);
  start_slots(depth, CHUNK);
  for (uint32_t i = 0; i < seed; i++) random64();
  uint64_t start = now(), length = strtoull(a[2], 0, 0) * 1000000000u;
  if (from) {
    count_from = monotonic_of(strtoull(from, 0, 0));
    count_until = count_from + length;
  }
  for (uint64_t at = 0; at < span; at += CHUNK) {
    size_t size = span - at < CHUNK ? span - at : CHUNK;
    pattern(model + at, size, at, seed);
    memcpy(slots[0].data, model + at, size);
    if (pwrite(fd, slots[0].data, size, (off_t)at) != (ssize_t)size) die("fill");
  }
  uint64_t until = from ? count_until : now() + length;
  while (now() < until) {
    int i = 0;
    while (i < depth && slots[i].busy) i++;
    uint64_t choice = random64() % 100, bytes = (random64() % (random64() % 4 ? 16 : CHUNK / SECTOR) + 1) * SECTOR;
    uint64_t offset = random64() % (span / SECTOR) * SECTOR;
    if (offset + bytes > span) bytes = span - offset;
    if (i == depth || overlaps(depth, offset, bytes)) {
      reap(compare);
      continue;
    }
    if (choice < 2) {
      if (fdatasync(fd)) die("fdatasync");
      flushes++;
    } else if (choice < 4 && discards) {
      /* What a discarded range reads as is not said: it is written at once, so that the model knows again. */
      uint64_t range[2] = {offset, bytes};
      if (ioctl(fd, BLKDISCARD, range)) die("BLKDISCARD");
      choice = 4;
    }
    if (choice >= 2 && choice < 55) {
      pattern(slots[i].data, bytes, offset, (uint32_t)random64());
      memcpy(model + offset, slots[i].data, bytes);
      submit(i, fd, 1, offset, bytes);
    } else if (choice >= 55) submit(i, fd, 0, offset, bytes);
  }
  while (any_busy(depth)) reap(compare);
  for (uint64_t at = 0; at < span; at += CHUNK) {
    size_t size = span - at < CHUNK ? span - at : CHUNK;
    if (pread(fd, slots[0].data, size, (off_t)at) != (ssize_t)size) die("last read");
    if (memcmp(slots[0].data, model + at, size)) wrong("mismatch at the end", at);
  }
  printf("flushes=%u\n", flushes);
  figure(fsx_ops, fsx_bytes, from ? length : now() - start);
  return 0;
}

static int fill_or_check(char **a, int fills) {
  uint64_t total = strtoull(a[1], 0, 0) * MIB;
  uint32_t seed = (uint32_t)atoi(a[2]);
  int fd = open(a[0], fills ? O_RDWR | O_CREAT : O_RDONLY, 0600);
  if (fd < 0) die(a[0]);
  char *data = buffer(MIB);
  uint64_t start = now();
  for (uint64_t at = 0; at < total; at += MIB) {
    if (fills) pattern(data, MIB, at, seed);
    ssize_t n = fills ? pwrite(fd, data, MIB, (off_t)at) : pread(fd, data, MIB, (off_t)at);
    if (n != (ssize_t)MIB) die("transfer");
    int64_t bad = fills ? -1 : differs(data, MIB, at, seed);
    if (bad >= 0) wrong("not the pattern", at + (uint64_t)bad);
  }
  if (fills && fdatasync(fd)) die("fdatasync");
  figure(total / MIB, total, now() - start);
  return 0;
}

static int flushes(char **a) {
  int fd = open(a[0], O_RDWR | O_DIRECT);
  if (fd < 0) die(a[0]);
  uint32_t *block = buffer(4096), count = (uint32_t)atoi(a[1]);
  uint64_t start = now();
  for (uint32_t n = 1; n <= count; n++) {
    for (int i = 0; i < 1024; i++) block[i] = n;
    if (pwrite(fd, block, 4096, (off_t)n * 4096) != 4096) die("write");
    if (fdatasync(fd)) die("fdatasync");
    printf("flushed %u\n", n);
    fflush(stdout);
  }
  figure(count, count * 4096ull, now() - start);
  return 0;
}

/* What a client asks for: S sends to the server, G gets from it, T takes turns. */
struct request {
  uint32_t kind, seed;
  uint64_t bytes;
};

/* The reader's answer to S. */
struct verdict {
  uint64_t bytes, bad;
};

static void receive(int fd, void *to, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    ssize_t n = read(fd, (char *)to + done, bytes - done);
    if (n < 0) die("receive");
    if (!n) wrong("the connection ended", done);
    done += (size_t)n;
  }
}

static void transmit(int fd, const void *from, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    ssize_t n = write(fd, (const char *)from + done, bytes - done);
    if (n < 0) die("transmit");
    done += (size_t)n;
  }
}

static void produce(int fd, uint64_t total, uint32_t seed) {
  char *data = buffer(CHUNK);
  for (uint64_t at = 0; at < total; at += CHUNK) {
    size_t size = total - at < CHUNK ? total - at : CHUNK;
    if (seed) pattern(data, size, at, seed);
    transmit(fd, data, size);
  }
}

/* Reads all; the number of pieces that were not the pattern. */
static uint64_t consume(int fd, uint64_t total, uint32_t seed) {
  char *data = buffer(CHUNK);
  uint64_t bad = 0;
  for (uint64_t at = 0; at < total;) {
    size_t size = total - at < CHUNK ? total - at : CHUNK;
    if (!seed) {
      ssize_t n = read(fd, data, size);
      if (n < 0) die("receive");
      if (!n) wrong("the connection ended", at);
      at += (uint64_t)n;
      continue;
    }
    receive(fd, data, size);
    bad += differs(data, size, at, seed) >= 0;
    at += size;
  }
  return bad;
}

static void answer(int fd) {
  struct request request;
  char message[64];
  receive(fd, &request, sizeof request);
  if (request.kind == 'S') {
    struct verdict verdict = {request.bytes, consume(fd, request.bytes, request.seed)};
    transmit(fd, &verdict, sizeof verdict);
  } else if (request.kind == 'G') produce(fd, request.bytes, request.seed);
  else
    for (uint64_t i = 0; i < request.bytes; i++) {
      receive(fd, message, sizeof message);
      transmit(fd, message, sizeof message);
    }
}

static int serve(char **a) {
  int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(a[0]))};
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 16)) die("listen");
  signal(SIGCHLD, SIG_IGN);
  printf("serving\n");
  fflush(stdout);
  for (;;) {
    int fd = accept(listener, 0, 0);
    if (fd < 0) die("accept");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (!fork()) {
      answer(fd);
      _exit(0);
    }
    close(fd);
  }
}

static int compare_times(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

static int ask(uint32_t kind, char **a) {
  int fd = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(a[1]))};
  if (inet_pton(AF_INET, a[0], &address.sin_addr) != 1) die(a[0]);
  if (connect(fd, (struct sockaddr *)&address, sizeof address)) die("connect");
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  uint64_t count = strtoull(a[2], 0, 0);
  struct request request = {kind, kind == 'T' ? 0 : (uint32_t)atoi(a[3]), kind == 'T' ? count : count * MIB};
  uint64_t start = now(), bad = 0;
  transmit(fd, &request, sizeof request);
  if (kind == 'S') {
    struct verdict verdict;
    produce(fd, request.bytes, request.seed);
    receive(fd, &verdict, sizeof verdict);
    if (verdict.bytes != request.bytes) wrong("the server counted", verdict.bytes);
    bad = verdict.bad;
  } else if (kind == 'G') bad = consume(fd, request.bytes, request.seed);
  else {
    uint64_t *times = calloc(count, sizeof *times);
    char message[64] = {0};
    for (uint64_t i = 0; i < count; i++) {
      uint64_t at = now();
      transmit(fd, message, sizeof message);
      receive(fd, message, sizeof message);
      times[i] = now() - at;
    }
    qsort(times, count, sizeof *times, compare_times);
    printf("median=%llu\n", (unsigned long long)times[count / 2]);
  }
  uint64_t ns = now() - start;
  if (bad) wrong("pieces that are not the pattern", bad);
  figure(count, kind == 'T' ? count * 128 : request.bytes, ns);
  return 0;
}

int main(int argc, char **argv) {
  const char *name = argc > 1 ? argv[1] : "";
  char **a = argv + 2;
  int n = argc - 2;
  if (!strcmp(name, "seq") && n == 5) return seq(a);
  if (!strcmp(name, "rand") && n == 5) return rand_reads(a);
  if (!strcmp(name, "fsx") && (n == 5 || n == 6)) return fsx(a, n == 6, 0);
  if (!strcmp(name, "shared") && n == 6) return fsx(a, 0, a[5]);
  if (!strcmp(name, "fill") && n == 3) return fill_or_check(a, 1);
  if (!strcmp(name, "check") && n == 3) return fill_or_check(a, 0);
  if (!strcmp(name, "flushes") && n == 2) return flushes(a);
  if (!strcmp(name, "serve") && n == 1) return serve(a);
  if (!strcmp(name, "send") && n == 4) return ask('S', a);
  if (!strcmp(name, "get") && n == 4) return ask('G', a);
  if (!strcmp(name, "turns") && n == 3) return ask('T', a);
  printf("GIO-FAIL usage\n");
  return 1;
}
