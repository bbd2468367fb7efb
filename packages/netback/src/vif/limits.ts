/** Every limit of vifs and their rings. */

/** Queues that a frontend may ask for (multi-queue-max-queues). */
export const MAX_QUEUES = 4;
/** Slots of transmit rings that one queue hands in before others get a turn. */
export const TX_SLOTS_PER_TURN = 128;
/** Slots of a packet past which its frontend is malicious, as Linux's fatal_skb_slots. */
export const FATAL_SLOTS = 20;
/** Frames and bytes that wait for a frontend's receive buffers, of one vif; more are dropped. */
export const RX_QUEUE_FRAMES = 2048;
export const RX_QUEUE_BYTES = 2 * 1024 * 1024;
/** The same of all vifs together. */
export const RX_TOTAL_BYTES = 64 * 1024 * 1024;
/** A frontend that has no receive buffers for this long loses what waits for it. */
export const RX_DRAIN_MS = 10_000;
/** How often the ring of a frontend that does not tell of new buffers (no feature-rx-notify) is looked at. */
export const RX_POLL_MS = 30;
/** Addresses of a vif's multicast filter, as Linux's XEN_NETBK_MCAST_MAX. */
export const MULTICAST_ADDRESSES = 64;
/** A vif's rate lets through bursts of a large frame, whatever its window. */
export const CREDIT_BURST_BYTES = 128 * 1024;
/** Statistics' files are written at most so often. */
export const STATISTICS_INTERVAL_MS = 1000;
/** Characters of an interface's name (IFNAMSIZ, its NUL not counted). */
export const INTERFACE_NAME_CHARS = 15;
/** Smaller frames pass through here: reading them whole costs less than asking twice. */
export const DIRECT_MIN_BYTES = 4096;
/** Parts of a frame that goes from pages to pages: each takes a buffer, and frontends take no more for one frame. */
export const DIRECT_PARTS = 18;
/** Read of such a frame: Ethernet with tags, IP with options, TCP with options. */
export const HEAD_BYTES = 256;
/** After one that had to be read whole after all, so many large frames are read whole at once. */
export const DIRECT_PAUSE = 32;
/** How often xenstore is looked at for one vif: so often at once, and in the long run. */
export const LOOKS_AT_ONCE = 64;
export const LOOKS_PER_SECOND = 20;
/** How long the event channels of a daemon that was killed may take to be free again, and how often that is tried. */
export const BIND_PATIENCE_MS = 5000;
export const BIND_RETRY_MS = 50;
