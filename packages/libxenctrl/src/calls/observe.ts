/** Looking at the host: trace buffers, performance counters, samples of guests (`xc_tbuf.c`, `xc_misc.c`). */
import { bytesOf, Errno, XenError } from '@xenhost/base';
import {
  PERFC_NAME_SIZE, PerfcOp, Sysctl, SYSCTL_PROFILE_OP, SysctlPerfcDesc, SysctlPerfcOp, SysctlProfileOp, SysctlTbufOp,
  TbufOp, XenctlBitmap,
} from '@xenhost/xen-abi'; // prettier-ignore
import type { Xenctrl } from '../api.ts';
import { CallArena } from '../caller.ts';
import type { Caller } from '../caller.ts';

const MAX_CPUS = 64;
/** A hypervisor that tells of more counters or values than this is not believed. */
const MAX_PERFC = 65536;

export const observeCalls = (caller: Caller) => {
  const tbuf = (operation: string, cmd: number, init: { size?: number; evt_mask?: number } = {}) =>
    caller.sysctl(operation, Sysctl.tbuf_op, SysctlTbufOp, { cmd, ...init });

  const info = async () => {
    const { view } = await tbuf('xc_tbuf_get_size', TbufOp.get_info);
    return { mfn: Number(view.buffer_mfn), sizeBytes: view.size, eventMask: view.evt_mask };
  };

  const perfcNumber = async () => {
    const { view } = await caller.sysctl('xc_perfc_query_number', Sysctl.perfc_op, SysctlPerfcOp, {
      cmd: PerfcOp.query,
    });
    return { nrCounters: Math.min(view.nr_counters, MAX_PERFC), nrValues: Math.min(view.nr_vals, MAX_PERFC) };
  };

  return {
    async tbufEnable(pages) {
      try {
        await tbuf(`xc_tbuf_enable with ${pages} pages`, TbufOp.set_size, { size: pages });
      } catch (error) {
        // They can be made once: what there is will do.
        const made = error instanceof XenError && (error.errno === Errno.EBUSY || error.errno === Errno.EINVAL);
        if (!made) throw error;
      }
      await tbuf('xc_tbuf_enable', TbufOp.enable);
      return info();
    },
    async tbufDisable() {
      await tbuf('xc_tbuf_disable', TbufOp.disable);
    },
    tbufGetInfo: info,
    async tbufSetEvtMask(mask) {
      await tbuf('xc_tbuf_set_evt_mask', TbufOp.set_evt_mask, { evt_mask: mask });
    },
    async tbufSetCpuMask(mask) {
      const arena = new CallArena();
      const map = new Uint8Array(MAX_CPUS / 8);
      new DataView(map.buffer).setBigUint64(0, mask, true);
      const { bytes } = SysctlTbufOp.create({ cmd: TbufOp.set_cpu_mask });
      const bitmap = XenctlBitmap.view(bytesOf(bytes), SysctlTbufOp.offsets.cpu_mask);
      bitmap.bitmap = arena.put(map).address;
      bitmap.nr_bits = MAX_CPUS;
      await caller.sysctlBytes('xc_tbuf_set_cpu_mask', Sysctl.tbuf_op, bytes, arena);
    },

    async perfcQuery() {
      const { nrCounters, nrValues } = await perfcNumber();
      const arena = new CallArena();
      const desc = arena.output(Math.max(nrCounters * SysctlPerfcDesc.size, 1));
      const val = arena.output(Math.max(nrValues * 4, 1));
      const init = { cmd: PerfcOp.query, desc: desc.address, val: val.address };
      await caller.sysctl('xc_perfc_query', Sysctl.perfc_op, SysctlPerfcOp, init, arena);
      const values = bytesOf(val.bytes).dv;
      let next = 0;
      return Array.from({ length: nrCounters }, (_, i) => {
        const at = i * SysctlPerfcDesc.size;
        const name = desc.bytes.subarray(at, at + PERFC_NAME_SIZE);
        const end = name.indexOf(0);
        const nr = Math.min(SysctlPerfcDesc.view(bytesOf(desc.bytes), at).nr_vals, nrValues - next);
        const first = next;
        next += nr;
        return {
          name: Buffer.from(end < 0 ? name : name.subarray(0, end)).toString('latin1'),
          values: Array.from({ length: nr }, (__, n) => values.getUint32((first + n) * 4, true)),
        };
      });
    },
    async perfcReset() {
      await caller.sysctl('xc_perfc_reset', Sysctl.perfc_op, SysctlPerfcOp, { cmd: PerfcOp.reset });
    },

    async profileSet(hz, domid) {
      await caller.sysctl(`sampling at ${hz} Hz`, SYSCTL_PROFILE_OP, SysctlProfileOp, { hz, domid });
    },
  } satisfies Partial<Xenctrl>;
};
