/**
 * Sysctls that look at the host: trace buffers, performance counters, and this project's sampling profiler.
 * `xen/common/trace.c`, `xen/common/perfc.c`.
 */
import { bytesOf, Errno } from '@xenhost/base';
import {
  PERFC_NAME_SIZE, PerfcOp, Sysctl, SysctlPerfcDesc, SysctlPerfcOp, SysctlProfileOp, SysctlTbufOp, TbufOp,
} from '@xenhost/xen-abi'; // prettier-ignore
import { bitmapAt } from './request.ts';
import type { SysctlContext, SysctlResult } from './sysctl.ts';

const LATIN1_MASK = 0xff;

export const OBSERVE_HANDLERS: Readonly<
  Record<'tbuf_op' | ('perfc_op' & keyof typeof Sysctl), (context: SysctlContext) => SysctlResult>
> = {
  tbuf_op: ({ m, request }) => {
    const u = request.u(SysctlTbufOp);
    const { traces } = m;
    switch (u.cmd) {
      case TbufOp.get_info: {
        const info = traces.info();
        u.evt_mask = info.eventMask;
        u.buffer_mfn = BigInt(info.mfn);
        u.size = info.sizeBytes;
        return 'copyBack';
      }
      case TbufOp.set_cpu_mask: {
        const mask = request.readBitmap(bitmapAt(request, SysctlTbufOp.offsets.cpu_mask));
        return mask === undefined ? -Errno.EFAULT : traces.setCpuMask(mask);
      }
      case TbufOp.set_evt_mask:
        return traces.setEventMask(u.evt_mask);
      case TbufOp.set_size:
        return traces.setSize(u.size);
      case TbufOp.enable:
        return traces.enable();
      case TbufOp.disable:
        return traces.disable((pcpu) => {
          const record = m.pcpus[pcpu];
          if (record) record.traceLost = 0;
        });
      default:
        return -Errno.EINVAL;
    }
  },

  /** Without arrays it tells how many there are; with them it fills both, whole. */
  perfc_op: ({ m, request }) => {
    const u = request.u(SysctlPerfcOp);
    if (u.cmd !== PerfcOp.query && u.cmd !== PerfcOp.reset) return -Errno.EINVAL;
    const counters = m.perf.query();
    u.nr_counters = counters.length;
    u.nr_vals = counters.reduce((sum, { values }) => sum + values.length, 0);
    if (u.desc !== 0n) {
      const descriptions = bytesOf(new Uint8Array(counters.length * SysctlPerfcDesc.size));
      counters.forEach(({ name, values }, i) => {
        const at = i * SysctlPerfcDesc.size;
        for (let c = 0; c < Math.min(name.length, PERFC_NAME_SIZE - 1); c++)
          descriptions.u8[at + c] = name.charCodeAt(c) & LATIN1_MASK;
        SysctlPerfcDesc.view(descriptions, at).nr_vals = values.length;
      });
      const values = Uint32Array.from(counters.flatMap((counter) => counter.values));
      const written =
        request.memory.write(u.desc, descriptions.u8) && request.memory.write(u.val, new Uint8Array(values.buffer));
      if (!written) return -Errno.EFAULT;
    }
    if (u.cmd === PerfcOp.reset) m.perf.reset();
    return 'copyBack';
  },
};

export const profileOp = ({ m, request }: SysctlContext): SysctlResult => {
  const u = request.u(SysctlProfileOp);
  return m.traces.profile(u.hz, u.domid);
};
