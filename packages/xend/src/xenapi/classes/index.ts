/** All classes of the Xen-API. */
import type { ApiClass } from '../table.ts';
import { console } from './console.ts';
import { cpuPool } from './cpu-pool.ts';
import { debug } from './debug.ts';
import { event } from './event.ts';
import { host, hostCpu, hostMetrics, pool } from './host.ts';
import { network, pif, pifMetrics } from './network.ts';
import { passThrough } from './pass-through.ts';
import { acmPolicy, xsPolicy } from './security.ts';
import { session } from './session.ts';
import { pbd, sr } from './sr.ts';
import { task } from './task.ts';
import { unused } from './unused.ts';
import { vbd, vbdMetrics } from './vbd.ts';
import { vdi } from './vdi.ts';
import { vif, vifMetrics } from './vif.ts';
import { vm } from './vm.ts';
import { vmMetrics } from './vm-metrics.ts';

export const apiClasses: readonly ApiClass[] = [
  session, task, event, debug, pool, host, hostCpu, hostMetrics, vm, vmMetrics, vbd, vbdMetrics, vif, vifMetrics, vdi, sr,
  pbd, network, pif, pifMetrics, console, cpuPool, ...passThrough, xsPolicy, acmPolicy, ...unused,
]; // prettier-ignore
