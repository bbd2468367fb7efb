import { bytesOf, Errno } from '@xenhost/base';
import { localPrivcmd } from '@xenhost/privcmd';
import type { FakeCall } from '@xenhost/privcmd/testing';
import {
  Hypercall, PerfcOp, Sysctl, SYSCTL_PROFILE_OP, SYSCTL_U, SysctlPerfcDesc, SysctlPerfcOp, SysctlProfileOp, SysctlTbufOp,
  TbufOp, XenSysctl,
} from '@xenhost/xen-abi'; // prettier-ignore
import type { Xenctrl } from '../api.ts';
import { FakeXen } from '../testing/fake-xen.ts';
import { openXenctrl } from '../xenctrl.ts';

let xen: FakeXen;
let xc: Xenctrl;
beforeEach(() => {
  xen = new FakeXen();
  xc = openXenctrl(localPrivcmd({}, xen).open());
});

type Answer = (raw: Uint8Array, call: FakeCall) => number;

/** Answers sysctls by number. */
function answer(rows: Readonly<Record<number, Answer>>): void {
  xen.handlers.set(Hypercall.sysctl, (call) => {
    const raw = call.memory.read(call.args[0] ?? 0n, XenSysctl.size);
    if (!raw) return -Errno.EFAULT;
    const result = rows[XenSysctl.view(bytesOf(raw), 0).cmd]?.(raw, call) ?? -Errno.ENOSYS;
    return call.memory.write(call.args[0] ?? 0n, raw) ? result : -Errno.EFAULT;
  });
}

describe('xc_tbuf', () => {
  const said: string[] = [];
  const tbuf = (setSize: number): Record<number, Answer> => ({
    [Sysctl.tbuf_op]: (raw, call) => {
      const u = SysctlTbufOp.view(bytesOf(raw), SYSCTL_U);
      const name = Object.entries(TbufOp).find(([, cmd]) => cmd === u.cmd)?.[0] ?? '';
      const at = SYSCTL_U + SysctlTbufOp.offsets.cpu_mask;
      const map = new DataView(raw.buffer, raw.byteOffset);
      const mask = u.cmd === TbufOp.set_cpu_mask ? call.memory.read(map.getBigUint64(at, true), map.getUint32(at + 8, true) / 8) : undefined;
      said.push([name, ...(u.size ? [u.size] : []), ...(mask ? [Buffer.from(mask).toString('hex')] : [])].join(' '));
      if (u.cmd === TbufOp.get_info) Object.assign(u, { evt_mask: 0x21000, buffer_mfn: 77n, size: 4096 });
      return u.cmd === TbufOp.set_size ? setSize : 0;
    },
  }); // prettier-ignore
  beforeEach(() => (said.length = 0));

  test.each([
    ['made now', 0],
    ['there already', -Errno.EBUSY],
    ['there already, of another size', -Errno.EINVAL],
  ])('enable, with buffers %s', async (_, setSize) => {
    answer(tbuf(setSize));
    expect(await xc.tbufEnable(32)).toEqual({ mfn: 77, sizeBytes: 4096, eventMask: 0x21000 });
    expect(said).toEqual(['set_size 32', 'enable', 'get_info']);
  });

  test('enable without memory fails', async () => {
    answer(tbuf(-Errno.ENOMEM));
    await expect(xc.tbufEnable(32)).rejects.toMatchObject({ code: 'ENOMEM' });
  });

  test('masks', async () => {
    answer(tbuf(0));
    await xc.tbufSetCpuMask(0x8000_0000_0000_0003n);
    await xc.tbufSetEvtMask(0x21000);
    await xc.tbufDisable();
    expect(said).toEqual(['set_cpu_mask 0300000000000080', 'set_evt_mask', 'disable']);
  });
});

describe('xc_perfc', () => {
  /** Tells of `nrVals` values, and describes counters of the given lengths. */
  const perfc = (lengths: readonly number[], nrVals: number): Record<number, Answer> => ({
    [Sysctl.perfc_op]: (raw, call) => {
      const u = SysctlPerfcOp.view(bytesOf(raw), SYSCTL_U);
      expect(u.cmd).toBe(PerfcOp.query);
      Object.assign(u, { nr_counters: lengths.length, nr_vals: nrVals });
      if (u.desc === 0n) return 0;
      const desc = new Uint8Array(lengths.length * SysctlPerfcDesc.size);
      lengths.forEach((length, i) => {
        desc.set(Buffer.from(`counter ${i}`), i * SysctlPerfcDesc.size);
        SysctlPerfcDesc.view(bytesOf(desc), i * SysctlPerfcDesc.size).nr_vals = length;
      });
      const values = Uint32Array.from({ length: nrVals }, (_, i) => i + 1);
      return call.memory.write(u.desc, desc) && call.memory.write(u.val, new Uint8Array(values.buffer)) ? 0 : -Errno.EFAULT;
    },
  }); // prettier-ignore

  test('counters with their values', async () => {
    answer(perfc([2, 1], 3));
    expect(await xc.perfcQuery()).toEqual([
      { name: 'counter 0', values: [1, 2] },
      { name: 'counter 1', values: [3] },
    ]);
  });

  test('counters that claim more values than there are get what there is', async () => {
    answer(perfc([2, 0xffff_ffff, 1], 3));
    expect((await xc.perfcQuery()).map(({ values }) => values)).toEqual([[1, 2], [3], []]);
  });
});

test('sampling', async () => {
  const asked: unknown[] = [];
  answer({
    [SYSCTL_PROFILE_OP]: (raw) => {
      const { hz, domid } = SysctlProfileOp.view(bytesOf(raw), SYSCTL_U);
      asked.push([hz, domid]);
      return hz > 10_000 ? -Errno.EINVAL : 0;
    },
  });
  await xc.profileSet(997, 3);
  expect(asked).toEqual([[997, 3]]);
  await expect(xc.profileSet(20_000, 3)).rejects.toMatchObject({ code: 'EINVAL' });
});
