/** Every limit of links between hosts; docs/NETWORK.md and docs/LIMITS.md repeat them for people. */

/** Characters of a secret at least. */
export const MIN_SECRET_LENGTH = 16;
/** How often an end says hello while the other is not known, and while it is. */
export const HELLO_SEARCH_MS = 1000;
export const HELLO_KEEPALIVE_MS = 5000;
/** A link without a word for so long is down. */
export const SILENCE_MS = 15_000;
/** Datagrams that may arrive out of order. */
export const REPLAY_WINDOW = 1024;
/** Frames that wait for their other fragments, and how long. */
export const MAX_REASSEMBLIES = 256;
export const REASSEMBLY_MS = 2000;
/** Bytes that wait for a UDP socket before frames are dropped. */
export const MAX_DATAGRAM_QUEUE_BYTES = 4 << 20;
/** TCP connections that have not shown that they know the secret, and how long they may take. */
export const MAX_STRANGERS = 8;
export const STRANGER_MS = 10_000;
/** Wait before a TCP link is tried again. */
export const RECONNECT_MS = 1000;
/** Packets under one pair of keys: far below what AES-GCM allows (NIST SP 800-38D 8.3), and a number in JavaScript. */
export const MAX_PACKETS_PER_KEY = 2 ** 32;
