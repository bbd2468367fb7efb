/** Every limit of blkback. */

/** Segments of one indirect request (`feature-max-indirect-segments`): 1 MiB. */
export const MAX_INDIRECT_SEGMENTS = 256;
/** Largest ring: 16 pages (`max-ring-page-order`). */
export const MAX_RING_PAGE_ORDER = 4;
/** Rings of one device (`multi-queue-max-queues`). */
export const MAX_QUEUES = 4;
/** Data of requests in work, of one device and of all. A device that has used its share leaves requests in its ring. */
export const DEVICE_BYTES_IN_WORK = 4 << 20;
export const ALL_BYTES_IN_WORK = 64 << 20;
/** A device that waited for memory takes so much in one turn when others wait too. */
export const TURN_BYTES = 1 << 20;
/** Adjoining requests become one access of the image up to this size. */
export const MERGED_BYTES = 1 << 20;
/** Data and steps of one batch to the hypervisor; under what privcmd takes at once, for other rings want their turn. */
export const BATCH_BYTES = 2 << 20;
export const BATCH_STEPS = 1500;
/** Largest ring whose copy comes with each event; of larger ones the indices come first. */
export const EVENT_COPY_PAGES = 2;
/** Requests are looked for after this long even when those in work take longer. */
export const SLOW_WORK_MS = 2;
/** How often a connected device's image is asked for its size. */
export const RESIZE_CHECK_MS = 2000;
/** Statistics files are written at most this often. */
export const STATISTICS_MS = 1000;
/** How long another process's end of an event channel is waited for: it may be a predecessor that just died. */
export const BIND_PATIENCE_MS = 5000;
/** Looks at a device's nodes: so many at once, then so many a second. A guest may write its own as often as it likes. */
export const LOOKS_AT_ONCE = 40;
export const LOOKS_PER_SECOND = 10;
/** Discards of less give nothing back (`discard-granularity`): disk-image's smallest hole, and qcow2's usual cluster. */
export const DISCARD_BYTES = 65_536;
/** Devices; further ones are refused. */
export const MAX_DEVICES = 4096;
