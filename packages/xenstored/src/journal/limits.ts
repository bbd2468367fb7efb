/** Limits of the journal; docs/LIMITS.md has them. */

import { XENSTORE_RING_SIZE } from '@xenhost/xen-abi';
import { XS_HEADER_SIZE } from '@xenhost/xs-wire';

/** A log shorter than this is not compacted, unless the daemon is told another length. */
export const COMPACT_MIN_BYTES = 32 * 1024 * 1024;
/** A log this many times as long as the snapshot it began with is. */
export const COMPACT_RATIO = 4;
/** Bytes of one record; longer is damage. A commit of the whole store of 10,000 domains fits. */
export const RECORD_MAX_BYTES = 256 * 1024 * 1024;
/** After a failure to write (a full disk): how long until it is tried again. */
export const RETRY_MS = 5000;
/** Bytes that one write of a snapshot has. */
export const CHUNK_BYTES = 256 * 1024;
/** Records of a ring's state that are kept: which is true, the ring's indices tell. */
export const RING_STATES_KEPT = 2;
/** Requests that have been run and changed something, kept of each ring: as many as fit a ring. */
export const DONE_KEPT = XENSTORE_RING_SIZE / XS_HEADER_SIZE;
