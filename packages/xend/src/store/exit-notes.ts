/** Names of the nodes by which xend tells its later self (and people) how a machine ended. */
export const LAST_SHUTDOWN_REASON = 'xend/last_shutdown_reason';
export const RESTART_IN_PROGRESS = 'xend/restart_in_progress';
export const RESTART_COUNT = 'xend/restart_count';
/** Its domain is being built: a later xend that finds it must take it away. */
export const CREATION_IN_PROGRESS = 'xend/creation_in_progress';
/** In the domain's own path: its end was seen, and it stays for people to look at. */
export const SHUTDOWN_COMPLETED = 'xend/shutdown_completed';
export const UNRESPONSIVE = 'xend/unresponsive';
export const DUMPCORE_IN_PROGRESS = 'xend/dumpcore_in_progress';
