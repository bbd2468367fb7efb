import { bytesOf, Errno } from '@xenhost/base';
import { localPrivcmd } from '@xenhost/privcmd';
import {
  CpupoolOp, Domctl, DOMCTL_U, DomctlShadowOp, Hypercall, Sysctl, SYSCTL_U, SysctlCpupoolOp, XenctlBitmap, XenDomctl,
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
