/** Every limit of netback's control socket; docs/NETWORK.md and docs/LIMITS.md repeat them for people. */

/** Connections at a time, captures among them; more are turned away. */
export const MAX_CONTROL_CONNECTIONS = 16;
/** Bytes of a capture that wait for its reader before frames are left out. */
export const MAX_CAPTURE_BYTES = 16 << 20;
export const DEFAULT_SNAP_LENGTH = 262_144;
export const MAX_SNAP_LENGTH = 262_144;
export const MAX_CAPTURE_COUNT = 2 ** 32;
