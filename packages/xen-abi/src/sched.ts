/** `sched_op` (`xen/include/public/sched.h`). */
import { layout } from '@xenhost/base';

export const SchedOp = {
  yield: 0, block: 1, shutdown: 2, poll: 3, remote_shutdown: 4, shutdown_code: 5, watchdog: 6, pin_override: 7,
} as const; // prettier-ignore

/** SHUTDOWN_* */
export const Shutdown = { poweroff: 0, reboot: 1, suspend: 2, crash: 3, watchdog: 4, soft_reset: 5, MAX: 5 } as const;

export const SchedShutdown = layout('sched_shutdown', { reason: 'u32' });
export const SchedPoll = layout('sched_poll', { ports: 'u64', nr_ports: 'u32', timeout: 'u64' });
export const SchedRemoteShutdown = layout('sched_remote_shutdown', { domain_id: 'u16', reason: 'u32' });
export const SchedWatchdog = layout('sched_watchdog', { id: 'u32', timeout: 'u32' });
