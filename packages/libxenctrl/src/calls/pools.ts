/** CPU pools: made, filled, emptied (`xc_cpupool.c`). Looking at them is in host.ts. */
import { bytesOf } from '@xenhost/base';
import { CpupoolOp, Sysctl, SysctlCpupoolOp, XEN_SYSCTL_CPUPOOL_PAR_ANY, XenctlBitmap } from '@xenhost/xen-abi';
import type { Xenctrl } from '../api.ts';
import { CallArena } from '../caller.ts';
import type { Caller } from '../caller.ts';

const MAX_CPUS = 64;

export const poolCalls = (caller: Caller) => {
  const pool = (operation: string, op: number, init: { cpupool_id: number; sched_id?: number; cpu?: number }) =>
    caller.sysctl(operation, Sysctl.cpupool_op, SysctlCpupoolOp, { op, ...init });

  return {
    async cpupoolCreate(schedId) {
      const init = { cpupool_id: XEN_SYSCTL_CPUPOOL_PAR_ANY, sched_id: schedId };
      return (await pool('xc_cpupool_create', CpupoolOp.CREATE, init)).view.cpupool_id;
    },
    async cpupoolDestroy(poolId) {
      await pool(`xc_cpupool_destroy of pool ${poolId}`, CpupoolOp.DESTROY, { cpupool_id: poolId });
    },
    async cpupoolAddcpu(poolId, cpu) {
      await pool(`xc_cpupool_addcpu of CPU ${cpu} to pool ${poolId}`, CpupoolOp.ADDCPU, { cpupool_id: poolId, cpu });
    },
    async cpupoolRemovecpu(poolId, cpu) {
      const operation = `xc_cpupool_removecpu of CPU ${cpu} from pool ${poolId}`;
      await pool(operation, CpupoolOp.RMCPU, { cpupool_id: poolId, cpu });
    },
    async cpupoolFreeinfo() {
      const arena = new CallArena();
      const map = arena.output(MAX_CPUS / 8);
      const { bytes } = SysctlCpupoolOp.create({ op: CpupoolOp.FREEINFO });
      const cpumap = XenctlBitmap.view(bytesOf(bytes), SysctlCpupoolOp.offsets.cpumap);
      cpumap.bitmap = map.address;
      cpumap.nr_bits = MAX_CPUS;
      await caller.sysctlBytes('xc_cpupool_freeinfo', Sysctl.cpupool_op, bytes, arena);
      return Array.from({ length: MAX_CPUS }, (_, cpu) => cpu).filter(
        (cpu) => ((map.bytes[cpu >> 3] ?? 0) >> (cpu & 7)) & 1,
      );
    },
  } satisfies Partial<Xenctrl>;
};
