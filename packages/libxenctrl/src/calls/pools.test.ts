import { bytesOf, Errno } from '@xenhost/base';
import { localPrivcmd } from '@xenhost/privcmd';
import {
  CpupoolOp, Domctl, DOMCTL_U, DomctlExtVcpucontext, DomctlShadowOp, DomctlVcpuextstate, Hypercall, Sysctl, SYSCTL_U, SysctlCpupoolOp, XenctlBitmap, XenDomctl,
  XenSysctl,
} from '@xenhost/xen-abi'; // prettier-ignore
import { FakeXen } from '../testing/fake-xen.ts';
import type { Xenctrl } from '../api.ts';
import { openXenctrl } from '../xenctrl.ts';

let xen: FakeXen;
let xc: Xenctrl;
const said: string[] = [];
beforeEach(() => {
  said.length = 0;
  xen = new FakeXen();
  xc = openXenctrl(localPrivcmd({}, xen).open());
});

describe('CPU pools', () => {
  beforeEach(() => {
    xen.handlers.set(Hypercall.sysctl, ({ args, memory }) => {
      const raw = memory.read(args[0] ?? 0n, XenSysctl.size);
      if (!raw || XenSysctl.view(bytesOf(raw), 0).cmd !== Sysctl.cpupool_op) return -Errno.ENOSYS;
      const u = SysctlCpupoolOp.view(bytesOf(raw), SYSCTL_U);
      const name = Object.entries(CpupoolOp).find(([, op]) => op === u.op)?.[0] ?? '';
      said.push(`${name} pool ${u.cpupool_id | 0} sched ${u.sched_id} cpu ${u.cpu}`);
      if (u.op === CpupoolOp.CREATE) u.cpupool_id = 3;
      if (u.op === CpupoolOp.DESTROY) return -Errno.EBUSY;
      if (u.op === CpupoolOp.FREEINFO) {
        const map = XenctlBitmap.view(bytesOf(raw), SYSCTL_U + SysctlCpupoolOp.offsets.cpumap);
        memory.write(map.bitmap, new Uint8Array([0b1010_0000, 1]));
      }
      return memory.write(args[0] ?? 0n, raw) ? 0 : -Errno.EFAULT;
    });
  });

  test('are made, filled and emptied', async () => {
    expect(await xc.cpupoolCreate(5)).toBe(3);
    await xc.cpupoolAddcpu(3, 1);
    await xc.cpupoolRemovecpu(3, 1);
    expect(await xc.cpupoolFreeinfo()).toEqual([5, 7, 8]);
    await expect(xc.cpupoolDestroy(3)).rejects.toMatchObject({ errno: Errno.EBUSY });
    expect(said).toEqual([
      'CREATE pool -1 sched 5 cpu 0',
      'ADDCPU pool 3 sched 0 cpu 1',
      'RMCPU pool 3 sched 0 cpu 1',
      'FREEINFO pool 0 sched 0 cpu 0',
      'DESTROY pool 3 sched 0 cpu 0',
    ]);
  });
});

describe('XSAVE state', () => {
  const state = Uint8Array.of(7, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4);

  test('is asked for its size first, and given back as it is', async () => {
    xen.handlers.set(Hypercall.domctl, ({ args, memory }) => {
      const raw = memory.read(args[0] ?? 0n, XenDomctl.size);
      if (!raw) return -Errno.EFAULT;
      const { dv } = bytesOf(raw);
      const [cmd, size, buffer] = [dv.getUint32(0, true), dv.getBigUint64(DOMCTL_U + 16, true), dv.getBigUint64(DOMCTL_U + 24, true)];
      const given = size === 0n ? undefined : memory.read(buffer, Number(size));
      said.push(`${cmd} vcpu ${dv.getUint32(DOMCTL_U, true)} mask ${dv.getBigUint64(DOMCTL_U + 8, true)} ${Buffer.from(given ?? []).toString('hex')}`);
      if (cmd === Domctl.setvcpuextstate) return 0;
      dv.setBigUint64(DOMCTL_U + 8, 7n, true);
      dv.setBigUint64(DOMCTL_U + 16, BigInt(state.length), true);
      if (size !== 0n && !memory.write(buffer, state)) return -Errno.EFAULT;
      return memory.write(args[0] ?? 0n, raw) ? 0 : -Errno.EFAULT;
    }); // prettier-ignore
    const found = await xc.vcpuGetextstate(2, 1);
    expect(found).toEqual({ featureMask: 7n, data: state });
    if (found) await xc.vcpuSetextstate(3, 1, found);
    const hex = Buffer.from(state).toString('hex');
    expect(said).toEqual([`63 vcpu 1 mask 0 `, `63 vcpu 1 mask 7 ${'00'.repeat(12)}`, `62 vcpu 1 mask 7 ${hex}`]);
  });
});

describe('XSAVE state and extended contexts', () => {
  test('of a vCPU that has less than there might be is as long as it is', async () => {
    xen.handlers.set(Hypercall.domctl, ({ args, memory }) => {
      const raw = memory.read(args[0] ?? 0n, XenDomctl.size);
      if (!raw) return -Errno.EFAULT;
      const u = DomctlVcpuextstate.view(bytesOf(raw), DOMCTL_U);
      const isQuestion = u.size === 0n;
      u.xfeature_mask = 7n;
      u.size = isQuestion ? 848n : 16n;
      if (!isQuestion && !memory.write(u.buffer, new Uint8Array(16).fill(1))) return -Errno.EFAULT;
      return memory.write(args[0] ?? 0n, raw) ? 0 : -Errno.EFAULT;
    });
    expect(await xc.vcpuGetextstate(2, 1)).toEqual({ featureMask: 7n, data: new Uint8Array(16).fill(1) });
  });

  test('a context goes to the vCPU that is named, whatever number it has', async () => {
    const known = DomctlExtVcpucontext.create({ vcpu: 3, size: 64, sysenter_callback_eip: 0x1234n });
    xen.handlers.set(Hypercall.domctl, ({ args, memory }) => {
      const raw = memory.read(args[0] ?? 0n, XenDomctl.size);
      if (!raw) return -Errno.EFAULT;
      const u = DomctlExtVcpucontext.view(bytesOf(raw), DOMCTL_U);
      said.push(`${XenDomctl.view(bytesOf(raw), 0).cmd} vcpu ${u.vcpu} size ${u.size} ${u.sysenter_callback_eip}`);
      raw.set(known.bytes, DOMCTL_U);
      return memory.write(args[0] ?? 0n, raw) ? 0 : -Errno.EFAULT;
    });
    const context = await xc.vcpuGetextcontext(2, 1);
    expect(context).toEqual(known.bytes);
    await xc.vcpuSetextcontext(2, 1, Buffer.concat([context, new Uint8Array(64)]));
    expect(said).toEqual([
      `${Domctl.get_ext_vcpucontext} vcpu 1 size 0 0`,
      `${Domctl.set_ext_vcpucontext} vcpu 1 size 64 4660`,
    ]);
  });
});

describe('calls of Xen 4.4', () => {
  test('reach the hypervisor, and its refusal comes back', async () => {
    xen.handlers.set(Hypercall.domctl, ({ args, memory }) => {
      const raw = memory.read(args[0] ?? 0n, XenDomctl.size);
      if (!raw) return -Errno.EFAULT;
      const { cmd, domain } = XenDomctl.view(bytesOf(raw), 0);
      said.push(`${cmd} ${domain} ${Buffer.from(raw.subarray(DOMCTL_U, DOMCTL_U + 12)).toString('hex')}`);
      if (cmd !== Domctl.shadow_op) return -Errno.EINVAL;
      DomctlShadowOp.view(bytesOf(raw), DOMCTL_U).mb = 7;
      return memory.write(args[0] ?? 0n, raw) ? 0 : -Errno.EFAULT;
    });
    expect(await xc.shadowControl(2, 30)).toBe(7);
    const refusals = [
      xc.schedCredit2DomainGet(2),
      xc.schedCredit2DomainSet(2, 0x1234),
      xc.sedfDomainGet(2),
      xc.domainIoportPermission(2, 0x3f8, 8, true),
    ];
    for (const refusal of refusals) await expect(refusal).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(xc.tmemControl(0, -1)).rejects.toMatchObject({ code: 'ENOSYS' });
    expect(said).toEqual([
      `${Domctl.shadow_op} 2 1e0000000000000000000000`,
      `${Domctl.scheduler_op} 2 060000000100000000000000`,
      `${Domctl.scheduler_op} 2 060000000000000034120000`,
      `${Domctl.scheduler_op} 2 040000000100000000000000`,
      `${Domctl.ioport_permission} 2 f80300000800000001000000`,
    ]);
  });
});
