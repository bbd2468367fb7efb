/** Every limit of qemu-dm. */

/** Bytes of a framebuffer where no `-videoram` says how many; more that a guest claims to have are not looked at. */
export const MAX_FRAMEBUFFER_BYTES = 32 * 1024 * 1024;
/** Pixels of a screen, whatever their depth. */
export const MAX_PIXELS = 16 * 1024 * 1024;
/** Columns or rows of a screen: RFB counts them in 16 bits. */
export const MAX_SIDE = 0xffff;
/** Screens are looked at no more often than this while somebody watches, and the guest is asked to refresh as often. */
export const REFRESH_MS = 33;
/** How often the events of a guest are taken while nobody watches. */
export const IDLE_MS = 250;
/** Looking at a screen may take this part of the time: 1 in so many. */
export const READ_SHARE = 5;
/** Longest pause between looks at the screen of a guest that does not tell what it draws, while nothing changes. */
export const MAX_POLL_MS = 500;
/** Keyboard and pointer events that wait for a guest. */
export const MAX_INPUT_EVENTS = 512;

/** Clients of one screen; more are turned away. */
export const MAX_CLIENTS = 32;
/** Time for a client to get through the handshake. */
export const HANDSHAKE_MS = 30_000;
/** Pause before a wrong password is answered. */
export const WRONG_PASSWORD_MS = 500;
/** Encodings of a client's list that are looked at. */
export const MAX_ENCODINGS = 256;
/** Bytes of a clipboard text, which is read over and dropped; a client that announces more is dropped itself. */
export const MAX_CUT_TEXT_BYTES = 16 * 1024 * 1024;
/** Bytes of updates that wait for a client before it gets no further one. */
export const MAX_QUEUED_BYTES = 256 * 1024;
/** Keys that a client may hold down. */
export const MAX_HELD_KEYS = 64;
/** Largest WebSocket message from a client. */
export const WS_MESSAGE_BYTES = 64 * 1024;
/** Ports that are tried from the wanted one on with `-vncunused`. */
export const MAX_PORT_TRIES = 4096;
