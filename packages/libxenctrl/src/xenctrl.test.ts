import { bytesOf, Errno } from '@xenhost/base';
import { localPrivcmd } from '@xenhost/privcmd';
import {
  Domctl, DOMCTL_U, DomctlCreatedomain, DomctlGetvcpuinfo, DomctlVcpuaffinity, Hypercall, Sysctl, SYSCTL_U, SysctlCpupoolOp,
  SysctlCputopo, SysctlCputopoinfo, SysctlReadconsole, XenDomctl, XenSysctl,
} from '@xenhost/xen-abi'; // prettier-ignore
import type { FakeCall } from '@xenhost/privcmd/testing';
import type { Xenctrl } from './api.ts';
import { FakeXen } from './testing/fake-xen.ts';
import { uuidBytes, uuidText } from './uuid.ts';
import { openXenctrl } from './xenctrl.ts';

const UUID = '01020304-0506-0708-090a-0b0c0d0e0f10';
let xen: FakeXen;
let xc: Xenctrl;
beforeEach(() => {
  xen = new FakeXen();
  xc = openXenctrl(localPrivcmd({}, xen).open());
});

/** Answers one domctl or sysctl: gets the structure's bytes, which go back as the body leaves them. */
function answer(op: number, size: number, body: (raw: Uint8Array, call: FakeCall) => number): void {
  xen.handlers.set(op, (call) => {
    const raw = call.memory.read(call.args[0] ?? 0n, size);
    if (!raw) return -Errno.EFAULT;
    const result = body(raw, call);
    return call.memory.write(call.args[0] ?? 0n, raw) ? result : -Errno.EFAULT;
  });
}

describe('domains', () => {
  test('are created, listed, paused, shut down and destroyed', async () => {
    const domid = await xc.domainCreate({ uuid: UUID, maxVcpus: 2 });
    await xc.domainMaxVcpus(domid, 2);
    await xc.domainSetmaxmem(domid, 4096);
    expect(await xc.domainGetinfo(domid)).toMatchObject({
      domid,
      uuid: UUID,
      paused: true,
      maxMemkb: 4096,
      maxVcpuId: 1,
    });
    await xc.domainUnpause(domid);
    expect(await xc.domainGetinfo(domid)).toMatchObject({ paused: false, blocked: true, shutdown: false });
    await xc.domainShutdown(domid, 3);
    expect(await xc.domainGetinfo(domid)).toMatchObject({ shutdown: false, crashed: true, shutdownReason: 3 });
    await xc.domainShutdown(domid, 0);
    expect(await xc.domainGetinfolist()).toMatchObject([{ domid, shutdown: true, crashed: false, shutdownReason: 0 }]);
    await xc.domainDestroy(domid);
    expect(await xc.domainGetinfo(domid)).toBeUndefined();
    expect(await xc.domainGetinfolist()).toEqual([]);
  });

  test('a refusal names the operation, the domain and the errno', async () => {
    await expect(xc.domainPause(77)).rejects.toMatchObject({
      code: 'ESRCH',
      message: 'xc_domain_pause of domain 77: No such process',
    });
    const domid = await xc.domainCreate({ uuid: UUID, maxVcpus: 1 });
    await expect(xc.domainMaxVcpus(domid, 2)).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(xc.domainCreate({ uuid: 'no', maxVcpus: 1 })).rejects.toMatchObject({ code: 'EINVAL' });
  });

  test('creation passes every option where the hypervisor looks for it', async () => {
    let seen: object = {};
    answer(Hypercall.domctl, XenDomctl.size, (raw) => {
      const { cmd, interface_version, domain } = XenDomctl.view(bytesOf(raw), 0);
      const v = DomctlCreatedomain.view(bytesOf(raw), DOMCTL_U);
      const arch = bytesOf(raw).dv.getUint32(DOMCTL_U + DomctlCreatedomain.offsets.arch, true);
      const at = DOMCTL_U + DomctlCreatedomain.offsets.handle;
      seen = { cmd, interface_version, domain, flags: v.flags, vcpus: v.max_vcpus, ports: v.max_evtchn_port, grants: v.max_grant_frames, maptrack: v.max_maptrack_frames, opts: v.grant_opts, arch, uuid: uuidText(raw.subarray(at, at + 16)) }; // prettier-ignore
      return 0;
    });
    await xc.domainCreate({ domid: 9, uuid: UUID, maxVcpus: 3, flags: 1, maxEvtchnPort: 100, maxGrantFrames: 4, maxGrantVersion: 1, emulationFlags: 7 }); // prettier-ignore
    expect(seen).toEqual({ cmd: Domctl.createdomain, interface_version: 0x15, domain: 9, flags: 1, vcpus: 3, ports: 100, grants: 4, maptrack: -1, opts: 1, arch: 7, uuid: UUID }); // prettier-ignore
  });

  test('memory: frames in the order of pfns, partial allocation is an error', async () => {
    const domid = await xc.domainCreate({ uuid: UUID, maxVcpus: 1 });
    await xc.domainSetmaxmem(domid, 40);
    const mfns = await xc.domainPopulatePhysmap(domid, Uint32Array.of(5, 3, 4));
    expect(Array.from(mfns, (mfn) => xen.m2p.get(mfn))).toEqual([5, 3, 4]);
    const data = new Uint8Array(2 * 4096).fill(9);
    await xc.writeFrames(domid, mfns.subarray(0, 2), data);
    expect(await xc.readFrames(domid, mfns.subarray(0, 2))).toEqual(data);
    await xc.writeFrame(domid, mfns[0] ?? 0, 4090, Uint8Array.of(1, 2));
    expect(Array.from(await xc.readFrame(domid, mfns[0] ?? 0, 4089, 4))).toEqual([9, 1, 2, 9]);
    await expect(xc.domainPopulatePhysmap(domid, new Uint32Array(8))).rejects.toMatchObject({ code: 'ENOMEM' });
    await expect(xc.readFrames(domid, Uint32Array.of(1))).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(xc.writeFrames(domid, mfns, data)).rejects.toMatchObject({ code: 'EINVAL' });
  });

  test('scheduling parameters', async () => {
    const domid = await xc.domainCreate({ uuid: UUID, maxVcpus: 1 });
    await xc.schedCreditDomainSet(domid, { weight: 512, cap: 50 });
    expect(await xc.schedCreditDomainGet(domid)).toEqual({ weight: 512, cap: 50 });
  });
});

describe('vCPUs', () => {
  test('affinity is a bitmap by reference, answered with what is in effect', async () => {
    answer(Hypercall.domctl, XenDomctl.size, (raw, { memory }) => {
      const { dv } = bytesOf(raw);
      const { vcpu, flags } = DomctlVcpuaffinity.view(bytesOf(raw), DOMCTL_U);
      const map = dv.getBigUint64(DOMCTL_U + DomctlVcpuaffinity.offsets.cpumap_hard, true);
      expect([vcpu, flags, dv.getUint32(DOMCTL_U + DomctlVcpuaffinity.offsets.cpumap_hard + 8, true)]).toEqual([
        1, 1, 64,
      ]);
      const given = memory.read(map, 8);
      return given &&
        memory.write(
          map,
          given.map((byte) => byte & 3),
        )
        ? 0
        : -Errno.EFAULT;
    });
    expect(await xc.vcpuSetaffinity(1, 1, (1n << 63n) | 7n)).toBe(3n);
  });

  test('information', async () => {
    answer(Hypercall.domctl, XenDomctl.size, (raw) => {
      Object.assign(DomctlGetvcpuinfo.view(bytesOf(raw), DOMCTL_U), {
        online: 1,
        running: 1,
        cpu_time: 1n << 40n,
        cpu: 3,
      });
      return 0;
    });
    expect(await xc.vcpuGetinfo(1, 0)).toEqual({
      online: true,
      blocked: false,
      running: true,
      cpuTimeNs: 1n << 40n,
      cpu: 3,
    });
  });
});

describe('the host', () => {
  test('physinfo and version', async () => {
    expect(await xc.physinfo()).toMatchObject({
      nrCpus: 2,
      totalPages: 1 << 20,
      cpuKhz: 1_000_000,
      hwCap: [0, 0, 0, 0, 0, 0, 0, 0],
    });
    xen.handlers.set(Hypercall.xen_version, ({ args, memory }) => {
      const text = new Map([[1n, '.7'], [3n, 'xen-3.0-x86_64'], [9n, 'noreboot']]).get(args[0] ?? 0n); // prettier-ignore
      if (args[0] === 0n) return (4 << 16) | 17;
      if (args[0] === 7n) return 4096;
      return text === undefined || memory.write(args[1] ?? 0n, Buffer.from(text)) ? 0 : -Errno.EFAULT;
    });
    expect(await xc.version()).toMatchObject({
      major: 4,
      minor: 17,
      extra: '.7',
      capabilities: 'xen-3.0-x86_64',
      pagesize: 4096,
      commandline: 'noreboot',
    });
  });

  test('topology: pCPUs that are offline are undefined', async () => {
    answer(Hypercall.sysctl, XenSysctl.size, (raw, { memory }) => {
      const view = SysctlCputopoinfo.view(bytesOf(raw), SYSCTL_U);
      const topo = new Uint8Array(2 * SysctlCputopo.size);
      Object.assign(SysctlCputopo.view(bytesOf(topo), 0), { core: 1, socket: 2, node: 0 });
      SysctlCputopo.view(bytesOf(topo), SysctlCputopo.size).core = 0xffff_ffff;
      view.num_cpus = 2;
      return memory.write(view.cputopo, topo) ? 0 : -Errno.EFAULT;
    });
    expect(await xc.cputopoinfo()).toEqual([{ core: 1, socket: 2, node: 0 }, undefined]);
  });

  test('pools are found one after the other', async () => {
    const pools = [0, 3];
    answer(Hypercall.sysctl, XenSysctl.size, (raw, { memory }) => {
      expect(XenSysctl.view(bytesOf(raw), 0).cmd).toBe(Sysctl.cpupool_op);
      const view = SysctlCpupoolOp.view(bytesOf(raw), SYSCTL_U);
      const found = pools.find((id) => id >= view.cpupool_id);
      if (found === undefined) return -Errno.ENOENT;
      const map = bytesOf(raw).dv.getBigUint64(SYSCTL_U + SysctlCpupoolOp.offsets.cpumap, true);
      Object.assign(view, { cpupool_id: found, sched_id: 5, n_dom: 1 });
      return memory.write(map, Uint8Array.of(found === 0 ? 5 : 2)) ? 0 : -Errno.EFAULT;
    });
    expect(await xc.cpupoolGetinfolist()).toEqual([
      { poolId: 0, schedId: 5, nrDomains: 1, cpus: [0, 2] },
      { poolId: 3, schedId: 5, nrDomains: 1, cpus: [1] },
    ]);
  });

  test('the console ring and debug keys', async () => {
    answer(Hypercall.sysctl, XenSysctl.size, (raw, { memory }) => {
      const view = SysctlReadconsole.view(bytesOf(raw), SYSCTL_U);
      expect([view.clear, view.incremental, view.index, view.count]).toEqual([1, 1, 40, 100]);
      Object.assign(view, { count: 5, index: 45 });
      return memory.write(view.buffer, Buffer.from('(XEN)')) ? 0 : -Errno.EFAULT;
    });
    expect(await xc.readconsolering({ clear: true, fromIndex: 40, maxBytes: 100 })).toEqual({
      text: '(XEN)',
      index: 45,
    });
    answer(Hypercall.sysctl, XenSysctl.size, (raw, { memory }) => {
      const { dv } = bytesOf(raw);
      const keys = memory.read(dv.getBigUint64(SYSCTL_U, true), dv.getUint32(SYSCTL_U + 8, true));
      return Buffer.from(keys ?? []).toString() === 'rq' ? 0 : -Errno.EINVAL;
    });
    await xc.sendDebugKeys('rq');
  });
});

test('UUIDs go both ways', () => {
  expect(uuidText(uuidBytes(UUID.toUpperCase()))).toBe(UUID);
  expect(uuidText(uuidBytes(UUID.replaceAll('-', '')))).toBe(UUID);
  expect(() => uuidBytes('01020304')).toThrow('uuid');
});
