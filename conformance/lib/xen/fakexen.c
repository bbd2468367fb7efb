/*
 * The few calls of libxenevtchn, libxengnttab and libxenctrl that xenstored makes, answered without a Xen: preloaded into
 * Debian's C daemon and oxenstored, which run unchanged. FAKEXEN_DIR names the directory of fakexen.h.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "fakexen.h"
#include <xenctrl.h>
#include <xenevtchn.h>
#include <xengnttab.h>

static int events = -1;
static int guest_events[1 << 16];

static void path_of(char *path, size_t size, const char *name, int domid)
{
	const char *directory = getenv("FAKEXEN_DIR");

	if (domid < 0)
		snprintf(path, size, "%s/%s", directory ? directory : ".", name);
	else
		snprintf(path, size, "%s/%s.%d", directory ? directory : ".", name, domid);
}

/* The file in the directory for one that a real host would have; others as they are. */
static const char *ours(const char *path, char *buffer, size_t size)
{
	static const char *const folders[] = { "/proc/xen/", "/var/run/xenstored/", "/run/xenstored/" };
	size_t i;

	for (i = 0; i < sizeof(folders) / sizeof(*folders); i++)
		if (strncmp(path, folders[i], strlen(folders[i])) == 0) {
			path_of(buffer, size, path + strlen(folders[i]), -1);
			return buffer;
		}
	return path;
}

/* /proc/xen/xsd_kva and xsd_port: Domain-0's own ring. */
int open(const char *given, int flags, ...)
{
	int (*real)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
	char path[512];
	va_list rest;
	mode_t mode = 0;

	va_start(rest, flags);
	if (flags & O_CREAT)
		mode = va_arg(rest, mode_t);
	va_end(rest);
	return real(ours(given, path, sizeof(path)), flags, mode);
}

int open64(const char *given, int flags, ...) __attribute__((alias("open")));

static int open_named(const char *name, int domid, int flags)
{
	char path[512];

	path_of(path, sizeof(path), name, domid);
	return open(path, flags | O_CLOEXEC, 0600);
}

/* oxenstored raises the limit of files to the kernel's own, which a container may refuse. */
int setrlimit(__rlimit_resource_t resource, const struct rlimit *limit)
{
	(void)resource;
	(void)limit;
	return 0;
}

/* oxenstored's socket has a path of its own that nothing changes. */
int bind(int fd, const struct sockaddr *address, socklen_t length)
{
	int (*real)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "bind");
	struct sockaddr_un moved = { .sun_family = AF_UNIX };
	char path[512];

	if (address->sa_family != AF_UNIX)
		return real(fd, address, length);
	snprintf(moved.sun_path, sizeof(moved.sun_path), "%s",
		 ours(((const struct sockaddr_un *)address)->sun_path, path, sizeof(path)));
	return real(fd, (const struct sockaddr *)&moved, sizeof(moved));
}

int unlink(const char *given)
{
	int (*real)(const char *) = dlsym(RTLD_NEXT, "unlink");
	char path[512];

	return real(ours(given, path, sizeof(path)));
}

xenevtchn_handle *xenevtchn_open(struct xentoollog_logger *logger, unsigned int flags)
{
	(void)logger;
	(void)flags;
	events = open_named("events", -1, O_RDWR | O_NONBLOCK);
	return events < 0 ? NULL : (xenevtchn_handle *)&events;
}

xenevtchn_handle *xenevtchn_fdopen(struct xentoollog_logger *logger, int fd, unsigned int flags)
{
	(void)fd;
	return xenevtchn_open(logger, flags);
}

int xenevtchn_close(xenevtchn_handle *xce)
{
	(void)xce;
	return close(events);
}

int xenevtchn_fd(xenevtchn_handle *xce)
{
	(void)xce;
	return events;
}

xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle *xce)
{
	uint32_t port;

	(void)xce;
	return read(events, &port, sizeof(port)) == sizeof(port) ? (int)port : -1;
}

int xenevtchn_unmask(xenevtchn_handle *xce, evtchn_port_t port)
{
	(void)xce;
	(void)port;
	return 0;
}

int xenevtchn_notify(xenevtchn_handle *xce, evtchn_port_t port)
{
	unsigned int domid = port - FAKEXEN_PORT;

	(void)xce;
	if (domid >= 1 << 16)
		return 0;
	if (!guest_events[domid])
		guest_events[domid] = open_named("events", domid, O_RDWR | O_NONBLOCK);
	/* A full FIFO has told it already. */
	return write(guest_events[domid], "", 1) < 0 && errno != EAGAIN ? -1 : 0;
}

xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle *xce, uint32_t domid, evtchn_port_t remote)
{
	(void)xce;
	(void)remote;
	return FAKEXEN_PORT + domid;
}

int xenevtchn_unbind(xenevtchn_handle *xce, evtchn_port_t port)
{
	unsigned int domid = port - FAKEXEN_PORT;

	(void)xce;
	if (domid < 1 << 16 && guest_events[domid] > 0) {
		close(guest_events[domid]);
		guest_events[domid] = 0;
	}
	return 0;
}

xenevtchn_port_or_error_t xenevtchn_bind_virq(xenevtchn_handle *xce, unsigned int virq)
{
	(void)xce;
	(void)virq;
	return FAKEXEN_VIRQ_PORT;
}

static void *map_page(int domid)
{
	int fd = open_named("page", domid, O_RDWR);
	void *page;

	if (fd < 0)
		return NULL;
	page = mmap(NULL, FAKEXEN_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return page == MAP_FAILED ? NULL : page;
}

xengnttab_handle *xengnttab_open(struct xentoollog_logger *logger, unsigned int flags)
{
	static int handle;

	(void)logger;
	(void)flags;
	return (xengnttab_handle *)&handle;
}

int xengnttab_close(xengnttab_handle *xgt)
{
	(void)xgt;
	return 0;
}

int xengnttab_set_max_grants(xengnttab_handle *xgt, uint32_t count)
{
	(void)xgt;
	(void)count;
	return 0;
}

void *xengnttab_map_grant_ref(xengnttab_handle *xgt, uint32_t domid, uint32_t ref, int prot)
{
	(void)xgt;
	(void)ref;
	(void)prot;
	return map_page(domid);
}

int xengnttab_unmap(xengnttab_handle *xgt, void *start, uint32_t count)
{
	(void)xgt;
	return munmap(start, (size_t)count * FAKEXEN_PAGE);
}

xc_interface *xc_interface_open(xentoollog_logger *logger, xentoollog_logger *dombuild, unsigned flags)
{
	static int handle;

	(void)logger;
	(void)dombuild;
	(void)flags;
	return (xc_interface *)&handle;
}

int xc_interface_close(xc_interface *xch)
{
	(void)xch;
	return 0;
}

void *xc_map_foreign_range(xc_interface *xch, uint32_t domid, int size, int prot, unsigned long mfn)
{
	(void)xch;
	(void)size;
	(void)prot;
	(void)mfn;
	return map_page(domid);
}

static int lives(int domid)
{
	char page[512], dead[512];
	struct stat st;

	path_of(page, sizeof(page), "page", domid);
	path_of(dead, sizeof(dead), "dead", domid);
	return stat(page, &st) == 0 && stat(dead, &st) != 0;
}

int xc_domain_getinfo(xc_interface *xch, uint32_t first, unsigned int max, xc_dominfo_t *info)
{
	(void)xch;
	if (max == 0 || !lives(first))
		return 0;
	memset(info, 0, sizeof(*info));
	info->domid = first;
	info->running = 1;
	return 1;
}

int xc_domain_getinfolist(xc_interface *xch, uint32_t first, unsigned int max, xc_domaininfo_t *info)
{
	(void)xch;
	if (max == 0 || !lives(first))
		return 0;
	memset(info, 0, sizeof(*info));
	info->domain = first;
	info->flags = XEN_DOMINF_running;
	return 1;
}
