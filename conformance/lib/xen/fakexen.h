/*
 * What stands for Xen below a daemon that was made for a real one (fakexen.c, preloaded) and below the guests that talk
 * to it (guest-ring.h). All is in one directory:
 *   page.N    the xenstore page of domain N
 *   events    a FIFO: ports (u32) that have been raised for the daemon
 *   events.N  a FIFO: one byte for each event of domain N
 *   dead.N    is there once domain N has died
 */
#ifndef FAKEXEN_H
#define FAKEXEN_H

#define FAKEXEN_PAGE 4096
/* The daemon's port for domain N is this plus N. */
#define FAKEXEN_PORT 1000
/* The daemon's port for VIRQ_DOM_EXC. */
#define FAKEXEN_VIRQ_PORT 1

#endif
