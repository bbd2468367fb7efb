/** Every limit of the uplinks; docs/NETWORK.md and docs/LIMITS.md repeat them for people. */

/** Bytes that wait for a helper process or a link before frames are dropped. */
export const MAX_QUEUED_BYTES = 8 << 20;
/** Connections that the gateway translates, in all and of one guest address; the oldest of a guest makes room. */
export const MAX_NAT_ENTRIES = 32_768;
export const MAX_NAT_ENTRIES_PER_GUEST = 8192;
/** How long an idle translation stays: RFC 5382 asks for 2 h 4 min for TCP, RFC 4787 for 5 min for UDP, RFC 5508 60 s for ICMP. */
export const NAT_IDLE_MS = { tcp: 7_440_000, udp: 300_000, icmp: 60_000 } as const;
/** The same after a FIN or RST: the other direction may still have something to say. */
export const NAT_CLOSING_MS = 60_000;
/** How often idle translations are looked for. */
export const NAT_SWEEP_MS = 10_000;
/** Stations whose MACs the gateway remembers. */
export const MAX_NEIGHBOURS = 8192;
/** What a DHCP lease lasts, and an offer that nobody took. */
export const LEASE_SECONDS = 86_400;
export const OFFER_MS = 60_000;
/** Addresses that one gateway hands out at most, and that are tried for one guest before another's is taken. */
export const MAX_LEASES = 65_536;
export const MAX_LEASE_GUESSES = 1024;
/** Waits before a helper that ended is started again: doubled from the first to the last. */
export const RESTART_FIRST_MS = 200;
export const RESTART_LAST_MS = 30_000;
/** A helper that lived this long is started again without a wait of more than the first. */
export const RESTART_CALM_MS = 60_000;
/** Queries of names that wait for an answer, and how long. */
export const MAX_DNS_QUERIES = 1024;
export const DNS_TIMEOUT_MS = 10_000;
/** Stations that the gateway asks for by ARP at a time, packets that wait for each, and how long. */
export const MAX_UNRESOLVED = 64;
export const MAX_WAITING_PACKETS = 8;
export const UNRESOLVED_MS = 3000;
/** Ports of this machine that a forwarded UDP port may answer; the one heard of first is forgotten first. */
export const MAX_CALLERS = 256;
