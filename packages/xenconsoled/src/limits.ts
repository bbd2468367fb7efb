/** Every limit of xenconsoled. */

/** Recent output of a console that a new reader gets first. */
export const HISTORY_BYTES = 64 * 1024;
/** Output that waits for one slow reader; past it the reader is dropped, with a message. */
export const READER_QUEUE_BYTES = 1024 * 1024;
/** Input that waits for the guest; past it readers are not read from. */
export const INPUT_QUEUE_BYTES = 64 * 1024;
/** Size at which a log file is moved to `NAME.1`, replacing the one before. */
export const LOG_FILE_BYTES = 8 * 1024 * 1024;
/** Attached readers of one console. */
export const READERS_PER_CONSOLE = 64;
/** Largest WebSocket message from a browser. */
export const WS_MESSAGE_BYTES = 64 * 1024;
