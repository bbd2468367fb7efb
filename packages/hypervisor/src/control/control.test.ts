import { bytesOf, Errno, layout } from '@xenhost/base';
import type { Fields, Layout, View } from '@xenhost/base';
import {
  CpuFeatureset,
  CpupoolOp,
  Domctl,
  DOMCTL_U,
  DomctlCpuPolicy,
  DomctlCreatedomain,
  DomctlGetdomaininfo,
  DomctlMaxMem,
  DomctlSchedop,
  DomctlSchedulerOp,
  DomctlVcpucontext,
  Dominf,
  Shutdown,
  Sysctl,
  SYSCTL_U,
  SysctlCpuFeatureset,
  SysctlCpuLevellingCaps,
  SysctlCpupoolOp,
  SysctlGetdomaininfolist,
  SysctlPcitopoinfo,
  SysctlPhysinfo,
  SysctlReadconsole,
  SysctlSchedulerOp,
  VcpuAffinity,
  VcpuGuestContext,
  VGCF,
  XEN_DOMCTL_INTERFACE_VERSION,
  XEN_SYSCTL_CPUPOOL_PAR_ANY,
  XEN_SYSCTL_INTERFACE_VERSION,
  XEN_INVALID_DEV,
  XenCpuidLeaf,
  XenDomctl,
  XenScheduler,
  XenSysctl,
} from '@xenhost/xen-abi';
import type { GrantTables } from '../grant/api.ts';
import type { HypercallCall, HypercallResult } from '../hypercall/types.ts';
import type { MemoryManager } from '../mm/api.ts';
import type { Pv } from '../pv/api.ts';
import { CpuPools } from '../sched/cpupools.ts';
import { pcpuViews } from '../sched/runqueue.ts';
import { DomainFlag, VcpuFlag } from '../state/records.ts';
import type { DomainRef } from '../state/refs.ts';
import { TestHost } from '../test-host.test-kit.ts';
import { PerfCounters } from '../trace/perf.ts';
import { CpuPolicies, HOST_FEATURESET, XEN_LEAF_BASE } from './cpu-policy.ts';
import { DomctlTable } from './domctl.ts';
import { ControlPauses } from './modules.ts';
import { SysctlTable } from './sysctl.ts';

/** The request lies here, what it points at from BUFFER on. */
const REQUEST = 0x1000n;
const BUFFER = 0x4000n;

/** `xen_domctl_vcpuaffinity` with its bitmaps as plain fields. */
const AffinityWithMaps = layout('vcpuaffinity', {
  vcpu: 'u32',
  flags: 'u32',
  hard: 'u64',
  hardBits: 'u32',
  soft: 'u64',
  softBits: 'u32',
});

/** `xen_sysctl_cpupool_op` with its bitmap as plain fields. */
const CpupoolWithMap = layout('cpupool_op', {
  op: 'u32',
  cpupool_id: 'u32',
  sched_id: 'u32',
  domid: 'u32',
  cpu: 'u32',
  n_dom: 'u32',
  bitmap: 'u64',
  nr_bits: 'u32',
});
const ANY = XEN_SYSCTL_CPUPOOL_PAR_ANY;

class Tools {
  readonly host: TestHost;
  readonly contexts: string[] = [];
  readonly dom0: DomainRef;
  readonly #bytes = new Uint8Array(0x20000);
  readonly #domctl: DomctlTable;
  readonly #sysctl: SysctlTable;

  constructor(nrPcpus = 1) {
    this.host = new TestHost({ nrPcpus });
    const { host } = this;
    this.dom0 = host.lifecycle.createDom0();
    const modules = {
      core: host.core,
      table: host.table,
      lifecycle: host.lifecycle,
      scheduler: host.scheduler,
      pools: new CpuPools(host.core, {
        pcpus: pcpuViews(host.core),
        table: host.table,
        scheduler: host.scheduler,
        requests: host.requests,
      }),
      pcpus: pcpuViews(host.core),
      console: host.console,
      memory: {
        heapInfo: () => ({ totalFrames: 1000, freeFrames: 600 }),
        allocateXenFrame: () => host.frames(1),
      } as unknown as MemoryManager,
      grants: {} as GrantTables,
      pv: {
        initContext: () => (this.contexts.push('set'), 0),
        readContext: () => new Uint8Array(VcpuGuestContext.size),
      } as unknown as Pv,
      policies: new CpuPolicies(host.core.memory),
      dom0CpuTime: () => 42n,
      pauses: new ControlPauses({ lifecycle: host.lifecycle, scheduler: host.scheduler }),
      traces: host.traces,
      perf: new PerfCounters(host.core),
    };
    this.#domctl = new DomctlTable(modules);
    this.#sysctl = new SysctlTable(modules);
  }

  /** Runs a domctl; `u` is the union's member, before and after. */
  domctl<F extends Fields>(
    cmd: keyof typeof Domctl,
    domain: number,
    layout?: Layout<F>,
    init: Partial<View<F>> = {},
    args: bigint[] = [REQUEST],
  ): { result: HypercallResult; op: { domain: number }; u: View<F> } {
    this.#bytes.fill(0, Number(REQUEST), Number(REQUEST) + XenDomctl.size);
    const op = XenDomctl.view(bytesOf(this.#bytes), Number(REQUEST));
    Object.assign(op, { cmd: Domctl[cmd], interface_version: XEN_DOMCTL_INTERFACE_VERSION, domain });
    const u = layout?.view(bytesOf(this.#bytes), Number(REQUEST) + DOMCTL_U) as View<F>;
    if (layout) Object.assign(u, init);
    return { result: this.#domctl.hypercall(this.#call(args)), op, u };
  }

  sysctl<F extends Fields>(
    cmd: keyof typeof Sysctl,
    layout: Layout<F>,
    init: Partial<View<F>> = {},
    args: bigint[] = [REQUEST],
  ): { result: HypercallResult; u: View<F> } {
    this.#bytes.fill(0, Number(REQUEST), Number(REQUEST) + XenSysctl.size);
    const op = XenSysctl.view(bytesOf(this.#bytes), Number(REQUEST));
    Object.assign(op, { cmd: Sysctl[cmd], interface_version: XEN_SYSCTL_INTERFACE_VERSION });
    const u = layout.view(bytesOf(this.#bytes), Number(REQUEST) + SYSCTL_U);
    Object.assign(u, init);
    return { result: this.#sysctl.hypercall(this.#call(args)), u };
  }

  at(address: bigint, length: number): Uint8Array {
    return this.#bytes.subarray(Number(address), Number(address) + length);
  }

  #call(args: bigint[]): HypercallCall {
    const inside = (address: bigint, length: number): boolean =>
      address >= REQUEST && address + BigInt(length) <= BigInt(this.#bytes.length);
    return {
      kind: 'privcmd',
      domid: this.dom0.domid,
      domain: this.dom0,
      vcpu: undefined,
      engine: undefined,
      args,
      memory: {
        read: (address, length) => (inside(address, length) ? this.at(address, length).slice() : undefined),
        write: (address, bytes) => inside(address, bytes.length) && (this.at(address, bytes.length).set(bytes), true),
      },
      shouldPreempt: () => false,
    };
  }
}

const CREATE = { max_vcpus: 1, max_grant_frames: -1, max_maptrack_frames: -1 };

describe('domctl', () => {
  test('createdomain gives the id back; the domain is paused and listed', () => {
    const tools = new Tools();
    const { result, op } = tools.domctl('createdomain', 0, DomctlCreatedomain, CREATE);
    expect([result, op.domain]).toEqual([0, 1]);
    const { u } = tools.domctl('getdomaininfo', 1, DomctlGetdomaininfo);
    expect(u.flags).toBe(Dominf.paused);
    expect(tools.domctl('unpausedomain', 1).result).toBe(0);
    expect(tools.domctl('unpausedomain', 1).result).toBe(-Errno.EINVAL);
  });

  test('another interface version is -EACCES, an unknown domain -ESRCH, an unknown command -ENOSYS', () => {
    const tools = new Tools();
    expect(tools.domctl('pausedomain', 9).result).toBe(-Errno.ESRCH);
    expect(tools.domctl('gethvmcontext', 0).result).toBe(-Errno.ENOSYS);
    expect(tools.domctl('getdomaininfo', 0x7ff0).result).toBe(-Errno.ESRCH);
  });

  test('an HVM domain is refused until there are HVM guests', () => {
    const { result } = new Tools().domctl('createdomain', 0, DomctlCreatedomain, { ...CREATE, flags: 1 });
    expect(result).toBe(-Errno.EOPNOTSUPP);
  });

  test('a domain may not pause its own controller', () => {
    expect(new Tools().domctl('pausedomain', 0).result).toBe(-Errno.EINVAL);
  });

  test('max_mem sets the limit in pages', () => {
    const tools = new Tools();
    const domain = tools.host.domain();
    expect(tools.domctl('max_mem', domain.domid, DomctlMaxMem, { max_memkb: 4096n }).result).toBe(0);
    expect(domain.v.maxPages).toBe(1024);
  });

  test('credit: weight and cap', () => {
    const tools = new Tools(2);
    const { domid } = tools.host.domain();
    const credit = (init: object) =>
      tools.domctl('scheduler_op', domid, DomctlSchedulerOp, { sched_id: XenScheduler.CREDIT, ...init });
    expect(credit({ cmd: DomctlSchedop.putinfo, weight: 512, cap: 150 }).result).toBe(0);
    credit({ cmd: DomctlSchedop.putinfo, weight: 0, cap: 0xffff });
    const { u } = credit({ cmd: DomctlSchedop.getinfo });
    expect([u.weight, u.cap]).toEqual([512, 150]);
    expect(credit({ sched_id: XenScheduler.CREDIT2 }).result).toBe(-Errno.EINVAL);
  });

  test('affinity is told back as it is in effect', () => {
    const tools = new Tools(2);
    const domain = tools.host.domain();
    const set = (cmd: 'setvcpuaffinity' | 'getvcpuaffinity', map: number, nrBits = 8): HypercallResult => {
      tools.at(BUFFER, 1)[0] = map;
      return tools.domctl(cmd, domain.domid, AffinityWithMaps, {
        vcpu: 0, flags: VcpuAffinity.HARD, hard: BUFFER, hardBits: nrBits, soft: 0n, softBits: 0,
      }).result; // prettier-ignore
    };
    expect(set('setvcpuaffinity', 2)).toBe(0);
    expect(tools.host.vcpu(domain).v.affinity & 3n).toBe(2n);
    expect(set('getvcpuaffinity', 0)).toBe(0);
    expect(tools.at(BUFFER, 1)[0]).toBe(2);
    expect(set('setvcpuaffinity', 0)).toBe(-Errno.EINVAL);
    expect(set('setvcpuaffinity', 0x80)).toBe(-Errno.EINVAL);
  });

  test('a context is set only off the pCPUs: first it pauses and asks to be called again', () => {
    const tools = new Tools();
    const domain = tools.host.domain();
    const vcpu = tools.host.vcpu(domain);
    tools.host.schedule();
    vcpu.v.isRunning = 1;
    tools.at(BUFFER, 520)[512] = VGCF.online;
    const args = [REQUEST];
    const attempt = () => tools.domctl('setvcpucontext', 1, DomctlVcpucontext, { vcpu: 0, ctxt: BUFFER }, args).result;
    expect(attempt()).toBe('continue');
    expect(attempt()).toBe('continue');
    expect([domain.v.pauseCount, tools.contexts]).toEqual([1, []]);
    expect(tools.host.schedule()).toBeUndefined();
    vcpu.v.isRunning = 0;
    expect(attempt()).toBe(0);
    expect([domain.v.pauseCount, tools.contexts]).toEqual([0, ['set']]);
    expect(vcpu.v.flags & (VcpuFlag.down | VcpuFlag.initialised)).toBe(VcpuFlag.initialised);
  });

  test('a CPUID policy can take features away and not add any', () => {
    const tools = new Tools();
    const domain = tools.host.domain();
    const leaf = XenCpuidLeaf.view(bytesOf(tools.at(BUFFER, XenCpuidLeaf.size)), 0);
    Object.assign(leaf, { leaf: 1, subleaf: 0xffff_ffff, a: 0x106ca, b: 0, c: 0xffff_fffe, d: 0xffff_ffff });
    const set = tools.domctl('set_cpu_policy', 1, DomctlCpuPolicy, { nr_leaves: 1, leaves: BUFFER });
    expect(set.result).toBe(0);
    const policies = new CpuPolicies(tools.host.core.memory);
    const { ecx, edx } = policies.cpuid(domain, 0, 1, 0);
    expect(ecx & 1).toBe(0);
    expect((ecx >>> 25) & 1).toBe(0);
    expect(edx & (1 << 26)).toBe(1 << 26);
    expect(edx & (1 << 12)).toBe(0);
    expect(policies.cpuid(domain, 0, XEN_LEAF_BASE, 0).ebx).toBe(0x566e6558);
    expect(policies.cpuid(domain, 0, XEN_LEAF_BASE + 1, 0).eax).toBe((4 << 16) | 17);
    expect(policies.cpuid(domain, 3, 1, 0).ebx >>> 24).toBe(6);
  });

  test('what needs a feature goes with it, and the XSAVE area is as large as what is left', () => {
    const [XSAVE, AVX, FMA, F16C, AVX2] = [26, 28, 12, 29, 5];
    const tools = new Tools();
    const domain = tools.host.domain();
    const policies = new CpuPolicies(tools.host.core.memory);
    const has = (word: number, bit: number): boolean => ((word >>> bit) & 1) !== 0;
    const whole = policies.cpuid(domain, 0, 1, 0);
    const setEcx = (ecx: number): void => {
      const leaf = XenCpuidLeaf.view(bytesOf(tools.at(BUFFER, XenCpuidLeaf.size)), 0);
      Object.assign(leaf, { leaf: 1, subleaf: 0xffff_ffff, a: whole.eax, b: whole.ebx, c: ecx >>> 0, d: whole.edx });
      expect(tools.domctl('set_cpu_policy', 1, DomctlCpuPolicy, { nr_leaves: 1, leaves: BUFFER }).result).toBe(0);
    };
    expect([XSAVE, AVX, FMA, F16C].map((bit) => has(whole.ecx, bit))).toEqual([true, true, true, true]);
    expect(has(policies.cpuid(domain, 0, 7, 0).ebx, AVX2)).toBe(true);
    expect(policies.cpuid(domain, 0, 0xd, 0)).toEqual({ eax: 7, ebx: 832, ecx: 832, edx: 0 });
    expect(policies.cpuid(domain, 0, 0xd, 2)).toEqual({ eax: 256, ebx: 576, ecx: 0, edx: 0 });

    setEcx(whole.ecx & ~(1 << AVX));
    const { ecx } = policies.cpuid(domain, 0, 1, 0);
    expect([XSAVE, AVX, FMA, F16C].map((bit) => has(ecx, bit))).toEqual([true, false, false, false]);
    expect(has(policies.cpuid(domain, 0, 7, 0).ebx, AVX2)).toBe(false);
    expect(policies.cpuid(domain, 0, 0xd, 0)).toEqual({ eax: 3, ebx: 576, ecx: 576, edx: 0 });
    expect(policies.cpuid(domain, 0, 0xd, 2).eax).toBe(0);

    setEcx(whole.ecx & ~(1 << XSAVE));
    expect(has(policies.cpuid(domain, 0, 1, 0).ecx, AVX)).toBe(false);
    expect([0, 1, 2].map((subleaf) => policies.cpuid(domain, 0, 0xd, subleaf).eax)).toEqual([0, 0, 0]);
    expect(policies.leaves(domain).find((l) => l.leaf === 7)?.ebx).toBe(policies.cpuid(domain, 0, 7, 0).ebx);
  });
});

describe('sysctl', () => {
  test('getdomaininfolist starts where asked and stops when full', () => {
    const tools = new Tools();
    for (let i = 0; i < 3; i++) tools.host.domain();
    const list = (first: number, max: number) => {
      const { u } = tools.sysctl('getdomaininfolist', SysctlGetdomaininfolist, {
        first_domain: first,
        max_domains: max,
        buffer: BUFFER,
      });
      const bytes = bytesOf(tools.at(BUFFER, 4 * DomctlGetdomaininfo.size));
      return Array.from(
        { length: u.num_domains },
        (_, i) => DomctlGetdomaininfo.view(bytes, i * DomctlGetdomaininfo.size).domain,
      );
    };
    expect(list(0, 8)).toEqual([0, 1, 2, 3]);
    expect(list(2, 8)).toEqual([2, 3]);
    expect(list(0, 2)).toEqual([0, 1]);
    expect(list(4, 8)).toEqual([]);
  });

  test('Domain-0 runs, a shut down domain tells its reason', () => {
    const tools = new Tools();
    const domain = tools.host.domain();
    tools.host.lifecycle.shutdown(domain, Shutdown.reboot);
    expect(domain.v.flags & DomainFlag.shutdown).toBeTruthy();
    tools.sysctl('getdomaininfolist', SysctlGetdomaininfolist, { max_domains: 2, buffer: BUFFER });
    const bytes = bytesOf(tools.at(BUFFER, 2 * DomctlGetdomaininfo.size));
    const [dom0, dom1] = [0, 1].map((i) => DomctlGetdomaininfo.view(bytes, i * DomctlGetdomaininfo.size));
    expect([dom0?.flags, dom0?.cpu_time]).toEqual([Dominf.running, 42n]);
    expect((dom1?.flags ?? 0) & Dominf.shutdown).toBe(Dominf.shutdown);
    expect(((dom1?.flags ?? 0) >>> Dominf.shutdownshift) & Dominf.shutdownmask).toBe(Shutdown.reboot);
  });

  test('the log is read in pieces', () => {
    const tools = new Tools();
    tools.host.console.log('hello');
    const first = tools.sysctl('readconsole', SysctlReadconsole, { buffer: BUFFER, count: 8 });
    expect([first.u.count, Buffer.from(tools.at(BUFFER, 8)).toString()]).toEqual([8, '(XEN) he']);
    const { index } = first.u;
    const rest = tools.sysctl('readconsole', SysctlReadconsole, { incremental: 1, index, buffer: BUFFER, count: 99 });
    expect(Buffer.from(tools.at(BUFFER, rest.u.count)).toString()).toBe('llo\n');
  });

  test('physinfo, scheduler parameters', () => {
    const tools = new Tools(2);
    const info = tools.sysctl('physinfo', SysctlPhysinfo).u;
    expect([info.nr_cpus, info.free_pages, info.nr_nodes]).toEqual([2, 600n, 1]);
    const sched = (init: object) =>
      tools.sysctl('scheduler_op', SysctlSchedulerOp, { sched_id: XenScheduler.CREDIT, ...init });
    expect(sched({ cmd: 1 }).u.tslice_ms).toBe(30);
    expect(sched({ cmd: 0, tslice_ms: 5, ratelimit_us: 2000 }).result).toBe(0);
    expect(sched({ cmd: 0, tslice_ms: 1, ratelimit_us: 2000 }).result).toBe(-Errno.EINVAL);
    expect(sched({ cmd: 1 }).u.tslice_ms).toBe(5);
    expect(sched({ cmd: 0, tslice_ms: 5, ratelimit_us: 99 }).result).toBe(-Errno.EINVAL);
    expect(sched({ cmd: 1, cpupool_id: 1 }).result).toBe(-Errno.ESRCH);
    expect(sched({ cmd: 2 }).result).toBe(-Errno.EINVAL);
  });

  test('featuresets of PV guests; no PCI device is known', () => {
    const tools = new Tools();
    const get = (init: object) => tools.sysctl('get_cpu_featureset', SysctlCpuFeatureset, init);
    const { nr_features } = get({}).u;
    expect(nr_features).toBe(HOST_FEATURESET.length);
    const all = { index: CpuFeatureset.pv, nr_features: 99, features: BUFFER };
    expect([get(all).result, get(all).u.nr_features]).toEqual([0, nr_features]);
    expect(bytesOf(tools.at(BUFFER, 8)).dv.getUint32(4, true)).toBe(HOST_FEATURESET[1]);
    const few = get({ ...all, nr_features: 2 });
    expect([few.result, few.u.nr_features]).toEqual([-Errno.ENOBUFS, 2]);
    expect(get({ ...all, index: CpuFeatureset.hvm }).result).toBe(-Errno.EOPNOTSUPP);
    expect(get({ ...all, index: 6 }).result).toBe(-Errno.EINVAL);
    expect(get({ ...all, features: 1n << 40n }).result).toBe(-Errno.EFAULT);
    expect(tools.sysctl('get_cpu_levelling_caps', SysctlCpuLevellingCaps, { caps: 9 }).u.caps).toBe(0);
    const pci = (init: object) => tools.sysctl('pcitopoinfo', SysctlPcitopoinfo, init);
    const asked = { num_devs: 1000, devs: BUFFER, nodes: BUFFER + 0x1000n };
    expect([pci(asked).result, pci(asked).u.num_devs]).toEqual([0, 64]);
    expect(bytesOf(tools.at(BUFFER + 0x1000n, 4)).dv.getUint32(0, true)).toBe(XEN_INVALID_DEV);
    expect(pci({ ...asked, nodes: 0n }).result).toBe(-Errno.EINVAL);
    expect(pci({ ...asked, devs: 1n << 40n }).result).toBe(-Errno.EFAULT);
  });

  test('cpupools: each operation and its errors', () => {
    const tools = new Tools(2);
    const { host } = tools;
    const credit = XenScheduler.CREDIT;
    const op = (name: keyof typeof CpupoolOp, init: object) => {
      const map = { bitmap: BUFFER, nr_bits: 64 };
      return tools.sysctl('cpupool_op', CpupoolWithMap, { op: CpupoolOp[name], ...map, ...init });
    };
    const result = (...args: Parameters<typeof op>) => op(...args).result;
    const info = (cpupool_id: number) => {
      const { result, u } = op('INFO', { cpupool_id });
      return result === 0 ? [u.cpupool_id, u.sched_id, u.n_dom, tools.at(BUFFER, 1)[0]] : result;
    };
    expect([info(0), info(1)]).toEqual([[0, credit, 1, 3], -Errno.ENOENT]);
    expect(result('CREATE', { cpupool_id: ANY, sched_id: XenScheduler.CREDIT2 })).toBe(-Errno.ENOENT);
    expect(op('CREATE', { cpupool_id: ANY, sched_id: credit }).u.cpupool_id).toBe(1);
    expect(result('CREATE', { cpupool_id: 1, sched_id: credit })).toBe(-Errno.EEXIST);
    expect(info(1)).toEqual([1, credit, 0, 0]);
    const domain = host.domain();
    const { domid } = domain;
    expect(result('MOVEDOMAIN', { cpupool_id: 1, domid })).toBe(-Errno.ENOENT);
    expect(result('MOVEDOMAIN', { cpupool_id: 0, domid: 0 })).toBe(-Errno.EPERM);
    expect(result('MOVEDOMAIN', { cpupool_id: 0, domid: 99 })).toBe(-Errno.ESRCH);
    expect(result('MOVEDOMAIN', { cpupool_id: 0, domid })).toBe(0);
    expect([result('RMCPU', { cpu: 0 }), result('RMCPU', { cpu: 2 })]).toEqual([-Errno.EINVAL, -Errno.EINVAL]);
    host.schedule(0);
    expect(result('RMCPU', { cpu: ANY })).toBe(0);
    expect(result('FREEINFO', {})).toBe(0);
    expect(tools.at(BUFFER, 1)[0]).toBe(2);
    expect([result('ADDCPU', { cpupool_id: 1, cpu: ANY }), info(1)]).toEqual([0, [1, credit, 0, 2]]);
    host.schedule(0);
    host.vcpu(domain).v.isRunning = 1;
    const args = [REQUEST];
    const init = { op: CpupoolOp.MOVEDOMAIN, cpupool_id: 1, domid };
    const move = () => tools.sysctl('cpupool_op', SysctlCpupoolOp, init, args).result;
    expect([move(), domain.v.pauseCount]).toEqual(['continue', 1]);
    host.schedule(0);
    host.vcpu(domain).v.isRunning = 0;
    expect([move(), domain.v.pauseCount, info(1)]).toEqual([0, 0, [1, credit, 1, 2]]);
    expect(tools.domctl('getdomaininfo', domid, DomctlGetdomaininfo).u.cpupool).toBe(1);
    expect([host.schedule(0), host.schedule(1)]).toEqual([undefined, `d${domid}v0`]);
    expect(result('RMCPU', { cpupool_id: 1, cpu: 1 })).toBe(-Errno.EBUSY);
    expect(result('DESTROY', { cpupool_id: 1 })).toBe(-Errno.EBUSY);
    expect(result('DESTROY', { cpupool_id: 5 })).toBe(-Errno.ENOENT);
    expect(result('INFO', { bitmap: 1n << 40n })).toBe(-Errno.EFAULT);
    host.domain();
    host.schedule(0);
    tools.sysctl('cpupool_op', SysctlCpupoolOp, { op: CpupoolOp.CREATE, cpupool_id: 2, sched_id: credit });
    const sched = { cmd: 0, cpupool_id: 2, sched_id: credit, tslice_ms: 7, ratelimit_us: 0 };
    expect(tools.sysctl('scheduler_op', SysctlSchedulerOp, sched).result).toBe(0);
    const read = (cpupool_id: number) =>
      tools.sysctl('scheduler_op', SysctlSchedulerOp, { cmd: 1, cpupool_id, sched_id: credit }).u.tslice_ms;
    expect([read(0), read(1), read(2)]).toEqual([30, 30, 7]);
  });

  test('a pCPU that is asked to leave its pool answers when it has left', () => {
    const tools = new Tools(2);
    const { host } = tools;
    host.domain();
    host.domain();
    expect([host.schedule(0), host.schedule(1)]).toEqual(['d1v0', 'd2v0']);
    const args = [REQUEST];
    const leave = () => tools.sysctl('cpupool_op', SysctlCpupoolOp, { op: CpupoolOp.RMCPU, cpu: 1 }, args).result;
    expect([leave(), leave()]).toEqual(['continue', 'continue']);
    expect(host.schedule(1)).toBeUndefined();
    expect(leave()).toBe(0);
  });

  test('hard affinity is within the pool', () => {
    const tools = new Tools(2);
    const { host } = tools;
    tools.sysctl('cpupool_op', SysctlCpupoolOp, { op: CpupoolOp.RMCPU, cpu: 1 });
    const { domid } = host.domain();
    const set = (hard: number) => {
      tools.at(BUFFER, 1)[0] = hard;
      const init = { flags: VcpuAffinity.HARD, hard: BUFFER, hardBits: 8 };
      return tools.domctl('setvcpuaffinity', domid, AffinityWithMaps, init).result;
    };
    expect([set(2), set(3), tools.at(BUFFER, 1)[0]]).toEqual([-Errno.EINVAL, 0, 1]);
    const get = { flags: VcpuAffinity.HARD, hard: BUFFER, hardBits: 8 };
    expect(tools.domctl('getvcpuaffinity', domid, AffinityWithMaps, get).result).toBe(0);
    expect(tools.at(BUFFER, 1)[0]).toBe(3);
  });
});
