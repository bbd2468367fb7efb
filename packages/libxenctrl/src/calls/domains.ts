/** Life cycle and properties of domains (`tools/libs/ctrl/xc_domain.c`). */
import { array, bytesOf, domid as asDomid, Errno, layout, XenError } from '@xenhost/base';
import type { Bytes } from '@xenhost/base';
import {
  Domctl, DomctlAddressSize, DomctlCpuPolicy, DomctlCreatedomain, DomctlGetdomaininfo, DomctlHypercallInit,
  DomctlMaxMem, DomctlMaxVcpus, DomctlSendtrigger, DomctlSettimeoffset, DomctlTscInfo, DOMID, Dominf, E820,
  E820_ENTRY_SIZE, ForeignMemoryMap, Hypercall, MemoryMapOp, MemoryOp, SchedOp, SchedRemoteShutdown,
  Sysctl, SysctlGetdomaininfolist, XEN_INVALID_MAX_VCPU_ID, XenCpuidLeaf,
} from '@xenhost/xen-abi'; // prettier-ignore
import { ShutdownReason } from '../api.ts';
import type { CpuidLeaf, DomainInfo, Xenctrl } from '../api.ts';
import { CallArena } from '../caller.ts';
import type { Caller } from '../caller.ts';
import { uuidBytes, uuidText } from '../uuid.ts';

const PAGE_KIB = 4;
const NO_ARGUMENTS = layout('none', { none: array('u8', 1) });
/** Leaves of a CPUID policy: more than Xen 4.17 ever answers. */
const MAX_CPUID_LEAVES = 512;
const MAX_DOMAINS = 1024;
/** Room of one call, at least; it travels both ways, filled or not. */
const DOMAINS_PER_CALL = 32;
/** Room for domains made since the last call. */
const SPARE_DOMAINS = 8;

function domainInfo(bytes: Bytes, at: number): DomainInfo {
  const v = DomctlGetdomaininfo.view(bytes, at);
  const has = (flag: number): boolean => (v.flags & flag) !== 0;
  const reason = (v.flags >>> Dominf.shutdownshift) & Dominf.shutdownmask;
  const crashed = has(Dominf.shutdown) && reason === ShutdownReason.crash;
  const handleAt = at + DomctlGetdomaininfo.offsets.handle;
  const handle = bytes.u8.slice(handleAt, handleAt + 16);
  return {
    domid: asDomid(v.domain),
    ssidref: v.ssidref,
    dying: has(Dominf.dying),
    shutdown: has(Dominf.shutdown) && !crashed,
    crashed,
    paused: has(Dominf.paused),
    blocked: has(Dominf.blocked),
    running: has(Dominf.running),
    debugged: has(Dominf.debugged),
    hvm: has(Dominf.hvm_guest),
    shutdownReason: has(Dominf.shutdown) ? reason : 0,
    nrPages: Number(v.tot_pages),
    nrOutstandingPages: Number(v.outstanding_pages),
    nrSharedPages: Number(v.shr_pages),
    nrPagedPages: Number(v.paged_pages),
    sharedInfoFrame: Number(v.shared_info_frame),
    cpuTimeNs: v.cpu_time,
    maxMemkb: Number(v.max_pages) * PAGE_KIB,
    nrOnlineVcpus: v.nr_online_vcpus,
    maxVcpuId: v.max_vcpu_id === XEN_INVALID_MAX_VCPU_ID ? -1 : v.max_vcpu_id,
    handle,
    uuid: uuidText(handle),
    cpupool: v.cpupool,
    gpaddrBits: v.gpaddr_bits,
  };
}

const cpuidLeaf = (bytes: Bytes, at: number): CpuidLeaf => {
  const { leaf, subleaf, a, b, c, d } = XenCpuidLeaf.view(bytes, at);
  return { leaf, subleaf, a, b, c, d };
};

export const domainCalls = (caller: Caller) => {
  const plain = async (operation: string, cmd: number, domid: number): Promise<void> => {
    await caller.domctl(`${operation} of domain ${domid}`, cmd, domid, NO_ARGUMENTS);
  };
  const setMap = async (domid: number, entries: Uint8Array): Promise<void> => {
    const arena = new CallArena();
    const buffer = arena.put(entries).address;
    const { address, bytes } = arena.struct(ForeignMemoryMap, { domid });
    const map = MemoryMapOp.view(bytesOf(bytes), ForeignMemoryMap.offsets.map);
    map.nr_entries = entries.length / E820_ENTRY_SIZE;
    map.buffer = buffer;
    const operation = `xc_domain_set_memory_map of domain ${domid}`;
    await caller.call(operation, Hypercall.memory_op, [BigInt(MemoryOp.set_memory_map), address], arena);
  };

  const domainInfos = async (first: number, max: number): Promise<DomainInfo[]> => {
    const arena = new CallArena();
    const buffer = arena.output(max * DomctlGetdomaininfo.size);
    const { view } = await caller.sysctl('xc_domain_getinfolist', Sysctl.getdomaininfolist, SysctlGetdomaininfolist, {
      first_domain: first, max_domains: max, buffer: buffer.address,
    }, arena); // prettier-ignore
    const bytes = bytesOf(buffer.bytes);
    return Array.from({ length: Math.min(view.num_domains, max) }, (_, i) =>
      domainInfo(bytes, i * DomctlGetdomaininfo.size),
    );
  };

  /** How many domains there were last: a list of as many costs one call. */
  let listed = 0;

  return {
    async domainCreate(options) {
      const { bytes } = DomctlCreatedomain.create({
        ssidref: options.ssidref ?? 0,
        flags: options.flags ?? 0,
        max_vcpus: options.maxVcpus,
        max_evtchn_port: options.maxEvtchnPort ?? 0,
        max_grant_frames: options.maxGrantFrames ?? -1,
        max_maptrack_frames: options.maxMaptrackFrames ?? -1,
        grant_opts: options.maxGrantVersion ?? 2,
        cpupool_id: options.cpupool ?? 0,
      });
      bytes.set(uuidBytes(options.uuid), DomctlCreatedomain.offsets.handle);
      const dv = new DataView(bytes.buffer);
      dv.setUint32(DomctlCreatedomain.offsets.arch, options.emulationFlags ?? 0, true);
      return asDomid(
        await caller.domctlBytes('xc_domain_create', Domctl.createdomain, options.domid ?? DOMID.INVALID, bytes),
      );
    },
    domainDestroy: (domid) => plain('xc_domain_destroy', Domctl.destroydomain, domid),
    domainPause: (domid) => plain('xc_domain_pause', Domctl.pausedomain, domid),
    domainUnpause: (domid) => plain('xc_domain_unpause', Domctl.unpausedomain, domid),
    domainResume: (domid) => plain('xc_domain_resume', Domctl.resumedomain, domid),

    async domainShutdown(domid, reason) {
      const arena = new CallArena();
      const { address } = arena.struct(SchedRemoteShutdown, { domain_id: domid, reason });
      const operation = `xc_domain_shutdown of domain ${domid}`;
      await caller.call(operation, Hypercall.sched_op, [BigInt(SchedOp.remote_shutdown), address], arena);
    },

    async domainGetinfo(domid) {
      try {
        const { bytes } = await caller.domctl(
          `xc_domain_getinfo of domain ${domid}`,
          Domctl.getdomaininfo,
          domid,
          DomctlGetdomaininfo,
        );
        const info = domainInfo(bytesOf(bytes), 0);
        return info.domid === domid ? info : undefined;
      } catch (error) {
        if (error instanceof XenError && error.errno === Errno.ESRCH) return undefined;
        throw error;
      }
    },

    async domainGetinfolist(first = 0, max = MAX_DOMAINS) {
      const found: DomainInfo[] = [];
      const room = Math.max(DOMAINS_PER_CALL, listed + SPARE_DOMAINS);
      for (let from = first; found.length < max;) {
        const wanted = Math.min(max - found.length, room);
        const some = await domainInfos(from, wanted);
        found.push(...some);
        const last = some.at(-1);
        if (some.length < wanted || !last) break;
        from = last.domid + 1;
      }
      listed = found.length;
      return found;
    },

    async domainSetmaxmem(domid, maxMemKiB) {
      const operation = `xc_domain_setmaxmem of domain ${domid} to ${maxMemKiB} KiB`;
      await caller.domctl(operation, Domctl.max_mem, domid, DomctlMaxMem, { max_memkb: BigInt(maxMemKiB) });
    },

    async domainMaxVcpus(domid, max) {
      await caller.domctl(`xc_domain_max_vcpus of domain ${domid} to ${max}`, Domctl.max_vcpus, domid, DomctlMaxVcpus, {
        max,
      });
    },

    domainSetMemmapLimit: (domid, mapLimitKiB) =>
      setMap(domid, e820([{ addr: 0n, size: BigInt(mapLimitKiB) * 1024n, type: E820.RAM }])),
    domainSetMemoryMap: (domid, entries) => setMap(domid, e820(entries)),

    async domainSetAddressSize(domid, bits) {
      const operation = `set_address_size of domain ${domid} to ${bits}`;
      await caller.domctl(operation, Domctl.set_address_size, domid, DomctlAddressSize, { size: bits });
    },

    async domainGetAddressSize(domid) {
      const { view } = await caller.domctl(
        `xc_domain_get_guest_width of domain ${domid}`,
        Domctl.get_address_size,
        domid,
        DomctlAddressSize,
      );
      return view.size;
    },

    async domainSethandle(domid, uuid) {
      const operation = `xc_domain_sethandle of domain ${domid}`;
      await caller.domctlBytes(operation, Domctl.setdomainhandle, domid, uuidBytes(uuid));
    },

    async domainHypercallInit(domid, gmfn) {
      const operation = `hypercall_init of domain ${domid}, frame ${gmfn}`;
      await caller.domctl(operation, Domctl.hypercall_init, domid, DomctlHypercallInit, { gmfn: BigInt(gmfn) });
    },

    async domainSetTimeOffset(domid, seconds) {
      const operation = `xc_domain_set_time_offset of domain ${domid}`;
      const time_offset_seconds = BigInt(Math.trunc(seconds));
      await caller.domctl(operation, Domctl.settimeoffset, domid, DomctlSettimeoffset, { time_offset_seconds });
    },

    async domainSetTscInfo(domid, info) {
      await caller.domctl(`xc_domain_set_tsc_info of domain ${domid}`, Domctl.settscinfo, domid, DomctlTscInfo, {
        tsc_mode: info.mode, gtsc_khz: info.gtscKhz, incarnation: info.incarnation, elapsed_nsec: info.elapsedNs,
      }); // prettier-ignore
    },

    async domainGetTscInfo(domid) {
      const { view } = await caller.domctl(
        `xc_domain_get_tsc_info of domain ${domid}`,
        Domctl.gettscinfo,
        domid,
        DomctlTscInfo,
      );
      return {
        mode: view.tsc_mode,
        gtscKhz: view.gtsc_khz,
        incarnation: view.incarnation,
        elapsedNs: view.elapsed_nsec,
      };
    },

    async domainSetCpuPolicy(domid, leaves) {
      const arena = new CallArena();
      const bytes = new Uint8Array(leaves.length * XenCpuidLeaf.size);
      const all = bytesOf(bytes);
      for (const [i, leaf] of leaves.entries()) Object.assign(XenCpuidLeaf.view(all, i * XenCpuidLeaf.size), leaf);
      const init = { nr_leaves: leaves.length, nr_msrs: 0, leaves: arena.put(bytes).address };
      await caller.domctl(
        `xc_set_domain_cpu_policy of domain ${domid}`,
        Domctl.set_cpu_policy,
        domid,
        DomctlCpuPolicy,
        init,
        arena,
      );
    },

    async domainGetCpuPolicy(domid) {
      const arena = new CallArena();
      const buffer = arena.output(MAX_CPUID_LEAVES * XenCpuidLeaf.size);
      const init = { nr_leaves: MAX_CPUID_LEAVES, nr_msrs: 0, leaves: buffer.address };
      const operation = `xc_get_domain_cpu_policy of domain ${domid}`;
      const { view } = await caller.domctl(operation, Domctl.get_cpu_policy, domid, DomctlCpuPolicy, init, arena);
      const bytes = bytesOf(buffer.bytes);
      return Array.from({ length: Math.min(view.nr_leaves, MAX_CPUID_LEAVES) }, (_, i) =>
        cpuidLeaf(bytes, i * XenCpuidLeaf.size),
      );
    },

    async domainSendTrigger(domid, trigger, vcpu = 0) {
      const operation = `xc_domain_send_trigger ${trigger} to domain ${domid}`;
      await caller.domctl(operation, Domctl.sendtrigger, domid, DomctlSendtrigger, { trigger, vcpu });
    },
  } satisfies Partial<Xenctrl>;
};

function e820(entries: readonly { readonly addr: bigint; readonly size: bigint; readonly type: number }[]): Uint8Array {
  const dv = new DataView(new ArrayBuffer(entries.length * E820_ENTRY_SIZE));
  for (const [i, { addr, size, type }] of entries.entries()) {
    dv.setBigUint64(i * E820_ENTRY_SIZE, addr, true);
    dv.setBigUint64(i * E820_ENTRY_SIZE + 8, size, true);
    dv.setUint32(i * E820_ENTRY_SIZE + 16, type, true);
  }
  return new Uint8Array(dv.buffer);
}
