/** `Xenctrl` over a privcmd connection: the calls of `calls/`, put together. */
import type { PrivcmdPort } from '@xenhost/privcmd';
import type { Xenctrl } from './api.ts';
import { Caller } from './caller.ts';
import { domainCalls } from './calls/domains.ts';
import { eventCalls } from './calls/events.ts';
import { hostCalls } from './calls/host.ts';
import { memoryCalls } from './calls/memory.ts';
import { observeCalls } from './calls/observe.ts';
import { oldCalls } from './calls/old.ts';
import { poolCalls } from './calls/pools.ts';
import { vcpuCalls } from './calls/vcpus.ts';

/** xc_interface_open. The connection is the caller's to share; `close` ends it. */
export function openXenctrl(privcmd: PrivcmdPort): Xenctrl {
  const caller = new Caller(privcmd);
  return {
    privcmd,
    close: () => privcmd.close(),
    ...domainCalls(caller),
    ...vcpuCalls(caller),
    ...memoryCalls(caller),
    ...hostCalls(caller),
    ...eventCalls(caller),
    ...poolCalls(caller),
    ...oldCalls(caller),
    ...observeCalls(caller),
  };
}
