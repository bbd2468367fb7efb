/** Every limit of the Xen-API, in one place; docs/LIMITS.md repeats them for people. */

/** Seconds without a call after which a session is no more. */
export const SESSION_IDLE_S = 24 * 3600;
/** Sessions at once; one more ends the one that was quiet for longest. */
export const MAX_SESSIONS = 500;
/** Logins that may wait for the authenticator at once. */
export const MAX_LOGINS_UNDER_WAY = 16;
/** Events that wait for one session; more are given up, and its next event.next says so. */
export const MAX_QUEUED_EVENTS = 4_096;
/** Calls of event.next that one session may have blocked. */
export const MAX_BLOCKED_CALLS = 8;
/** How often domains and devices are compared with what was last told, while anybody listens, ms. */
export const OBSERVE_INTERVAL_MS = 250;
/** How often the hypervisor is asked for its list meanwhile, ms. */
export const REFRESH_INTERVAL_MS = 1_000;
/** Tasks that are not done yet. */
export const MAX_PENDING_TASKS = 200;
/** Tasks in all: the oldest done ones are forgotten beyond it. */
export const MAX_TASKS = 1_000;
/** Characters of results that tasks keep, all together: the oldest done ones are forgotten beyond it. */
export const MAX_TASK_RESULTS = 16 << 20;
/** Seconds for which a task that is done is remembered. */
export const TASK_KEEP_S = 24 * 3600;
/** Seconds that debug.wait may last. */
export const MAX_DEBUG_WAIT_S = 3_600;
/** Bytes of one text that a caller may have stored (labels, descriptions, values of maps). */
export const MAX_STORED_TEXT = 64 * 1024;
/** Entries of one map that a caller may have stored. */
export const MAX_STORED_ENTRIES = 1_000;
/** Records of one class that callers may have made (networks, VDIs, PBDs, pools). */
export const MAX_RECORDS = 10_000;
/** Bytes of a virtual disk. */
export const MAX_VDI_BYTES = 16 * 2 ** 40;
/** Shortest time over which a CPU's use is measured, ms. */
export const MIN_SAMPLE_MS = 1_000;
