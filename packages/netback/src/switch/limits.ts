/** Every limit of the virtual networks, in one place; docs/NETWORK.md and docs/LIMITS.md repeat them for people. */

/** Bridges of one daemon, configured ones and those that vifs name. */
export const MAX_BRIDGES = 64;
/** Ports of one bridge. */
export const MAX_PORTS = 4096;
/** MACs that a bridge knows, and those it learns behind one guest's port: a guest cannot crowd out others. */
export const MAX_MACS = 8192;
export const MAX_MACS_PER_GUEST = 64;
/** How long a MAC is known without a frame from it: the Linux bridge's ageing time. */
export const MAC_AGE_MS = 300_000;
/** Broadcast, multicast and unknown frames that a port may send a second, and at once. */
export const STORM_FRAMES_PER_SECOND = 2000;
export const STORM_BURST_FRAMES = 4000;
/** Moves of one MAC between links or uplinks within the window that hold it on one port, for how long, and MACs watched. */
export const FLAP_MOVES = 8;
export const FLAP_WINDOW_MS = 5000;
export const FLAP_HOLD_MS = 30_000;
export const MAX_FLAPPING_MACS = 1024;
/** Bytes of a frame: an IP packet's 65,535 behind an Ethernet header with one VLAN tag. */
export const MAX_FRAME_BYTES = 65_553;
/** Segments below this are not cut: one frame would become thousands (Linux's smallest MSS, TCP_MIN_SND_MSS 48, is of this order). */
export const MIN_SEGMENT_BYTES = 48;
/** IPv6 extension headers that are walked before a packet is given up. */
export const MAX_EXTENSION_HEADERS = 8;
/** IP addresses of one vif's filter. */
export const MAX_FILTER_ADDRESSES = 64;
