/** Every limit of privcmd, both sides. Clients split batches by them; a server with smaller ones refuses with E2BIG. */
import type { PrivcmdLimits } from './server.ts';

export const DEFAULT_LIMITS: PrivcmdLimits = {
  maxConnections: 64,
  maxHeaderBytes: 256 * 1024,
  maxPayloadBytes: 8 * 1024 * 1024,
  maxRequestsInFlight: 64,
  maxSendBacklogBytes: 8 * 1024 * 1024,
  maxBoundPorts: 1024,
  maxMemoryOps: 2048,
  maxArenaSegments: 256,
};

/** Steps of a memory batch that run before other connections get a turn. */
export const MEMORY_SLICE_OPS = 512;
/** Arguments of a hypercall. */
export const MAX_HYPERCALL_ARGS = 6;
export const PAGE_BYTES = 4096;
/** Bytes that come with one event. */
export const MAX_EVENT_READ_BYTES = 16 * 1024;
/** Reads for one event. */
export const MAX_EVENT_READS = 16;
/** Ports in one message of events: what comes with them stays below the payload's limit. */
export const MAX_EVENTS_PER_MESSAGE = 256;
