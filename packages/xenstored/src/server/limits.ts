/** Limits of the transports (quotas of domains are the core's, core/limits.ts). Each stands in docs/LIMITS.md. */

/** How long one socket's requests are run before others get their turn; the request under way is finished. */
export const SLICE_MS = 0.25;
/** How long slices are run one after the other before new input is looked for. */
export const TURN_MS = 4;
/** Clients in one round of the event loop from which on their replies are gathered. */
export const GATHER_FROM = 3;
/** So many clients get theirs at once. */
export const GATHERED_MAX = 64;
/** As long as none are gathered: after so many requests it is looked whether there are many clients. */
export const LOOK_EVERY = 64;
/** Rings that are read and written in one batch. */
export const RINGS_PER_BATCH = 64;
/** Batches on their way to the hypervisor and back: one is run there while results of another are worked on here. */
export const BATCHES_IN_FLIGHT = 2;
/** How often guests' events are looked at that wait too long. */
export const EXPIRY_PERIOD_MS = 1000;
/** Unsent bytes at which a socket's requests wait until it has read. */
export const SOCKET_HIGH_WATER_BYTES = 1024 * 1024;
/** Unsent bytes (events that pile up) at which a socket is dropped. */
export const SOCKET_OUTPUT_MAX_BYTES = 16 * 1024 * 1024;
/** Bytes at which the access log is put aside; one such file is kept. */
export const ACCESS_LOG_MAX_BYTES = 64 * 1024 * 1024;
/** Bytes of a payload that a line of it shows. */
export const ACCESS_LOG_TEXT_MAX = 512;
