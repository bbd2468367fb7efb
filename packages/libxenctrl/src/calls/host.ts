/** The host: scheduler, pools, topology, version, console (`xc_misc.c`, `xc_csched.c`, `xc_cpupool.c`, `xc_version.c`). */
import { bytesOf, Errno, XenError } from '@xenhost/base';
import {
  CpupoolOp, Domctl, DomctlSchedop, DomctlSchedulerOp, Hypercall, Sysctl, SysctlAvailheap, SysctlCpuinfo, SysctlCpupoolOp,
  SysctlCputopo, SysctlCputopoinfo, SysctlDebugKeys, SysctlGetcpuinfo, SysctlMeminfo, SysctlNumainfo, SysctlPhysinfo,
  SysctlReadconsole, SysctlSchedId, SysctlSchedop, SysctlSchedulerOp, XenctlBitmap, XenScheduler, XenVer, XenVerSize,
} from '@xenhost/xen-abi'; // prettier-ignore
import type { CpupoolInfo, CreditSchedule, Xenctrl } from '../api.ts';
import { CallArena } from '../caller.ts';
import type { Caller } from '../caller.ts';

const MAX_CPUS = 64;
const MAX_NODES = 16;
const MAX_POOLS = 2 * MAX_CPUS;
const ABSENT_CORE = 0xffff_ffff;
const CONSOLE_READ_BYTES = 64 * 1024;

/** Console and version texts: bytes up to NUL, read as Latin-1 (Xen's console is no UTF-8). */
const text = (bytes: Uint8Array): string => {
  const end = bytes.indexOf(0);
  return Buffer.from(end < 0 ? bytes : bytes.subarray(0, end)).toString('latin1');
};

export const hostCalls = (caller: Caller) => {
  const version = async (sub: number, size: number): Promise<{ result: number; bytes: Uint8Array }> => {
    const arena = new CallArena();
    const { address, bytes } = arena.output(Math.max(size, 1));
    const args = [BigInt(sub), size === 0 ? 0n : address];
    return { result: await caller.call(`xc_version ${sub}`, Hypercall.xen_version, args, arena), bytes };
  };

  const credit = async (domid: number, cmd: number, weight: number, cap: number) => {
    const operation = `xc_sched_credit_domain_${cmd === DomctlSchedop.putinfo ? 'set' : 'get'} of domain ${domid}`;
    const init = { sched_id: XenScheduler.CREDIT, cmd, weight, cap };
    const { view } = await caller.domctl(operation, Domctl.scheduler_op, domid, DomctlSchedulerOp, init);
    return { weight: view.weight, cap: view.cap };
  };

  const schedule = async (cmd: number, cpupool: number, given?: CreditSchedule): Promise<CreditSchedule> => {
    const operation = `xc_sched_credit_params_${cmd === SysctlSchedop.putinfo ? 'set' : 'get'}`;
    const { view } = await caller.sysctl(operation, Sysctl.scheduler_op, SysctlSchedulerOp, {
      cpupool_id: cpupool, sched_id: XenScheduler.CREDIT, cmd,
      tslice_ms: given?.tsliceMs ?? 0, ratelimit_us: given?.ratelimitUs ?? 0,
    }); // prettier-ignore
    return { tsliceMs: view.tslice_ms, ratelimitUs: view.ratelimit_us };
  };

  /** The first pool whose id is at least `from`. */
  const pool = async (from: number): Promise<CpupoolInfo | undefined> => {
    const arena = new CallArena();
    const map = arena.output(MAX_CPUS / 8);
    const { bytes, view } = SysctlCpupoolOp.create({ op: CpupoolOp.INFO, cpupool_id: from });
    const cpumap = XenctlBitmap.view(bytesOf(bytes), SysctlCpupoolOp.offsets.cpumap);
    cpumap.bitmap = map.address;
    cpumap.nr_bits = MAX_CPUS;
    try {
      bytes.set(await caller.sysctlBytes('xc_cpupool_getinfo', Sysctl.cpupool_op, bytes, arena));
    } catch (error) {
      if (error instanceof XenError && error.errno === Errno.ENOENT) return undefined;
      throw error;
    }
    const cpus = Array.from({ length: MAX_CPUS }, (_, i) => i).filter((i) => ((map.bytes[i >> 3] ?? 0) >> (i & 7)) & 1);
    return { poolId: view.cpupool_id, schedId: view.sched_id, nrDomains: view.n_dom, cpus };
  };

  return {
    async schedId() {
      return (await caller.sysctl('xc_sched_id', Sysctl.sched_id, SysctlSchedId)).view.sched_id;
    },
    async schedCreditDomainSet(domid, { weight, cap }) {
      await credit(domid, DomctlSchedop.putinfo, weight, cap);
    },
    schedCreditDomainGet: (domid) => credit(domid, DomctlSchedop.getinfo, 0, 0),
    schedCreditParamsGet: (cpupool = 0) => schedule(SysctlSchedop.getinfo, cpupool),
    schedCreditParamsSet: (given, cpupool = 0) => schedule(SysctlSchedop.putinfo, cpupool, given),

    async cpupoolGetinfolist() {
      const pools: CpupoolInfo[] = [];
      for (let from = 0; pools.length < MAX_POOLS;) {
        const found = await pool(from);
        if (!found || found.poolId < from) break;
        pools.push(found);
        from = found.poolId + 1;
      }
      return pools;
    },
    async cpupoolMovedomain(poolId, domid) {
      const operation = `xc_cpupool_movedomain of domain ${domid} to pool ${poolId}`;
      const init = { op: CpupoolOp.MOVEDOMAIN, cpupool_id: poolId, domid };
      await caller.sysctl(operation, Sysctl.cpupool_op, SysctlCpupoolOp, init);
    },

    async physinfo() {
      const { view, bytes } = await caller.sysctl('xc_physinfo', Sysctl.physinfo, SysctlPhysinfo);
      const { dv } = bytesOf(bytes);
      return {
        threadsPerCore: view.threads_per_core,
        coresPerSocket: view.cores_per_socket,
        nrCpus: view.nr_cpus,
        maxCpuId: view.max_cpu_id,
        nrNodes: view.nr_nodes,
        maxNodeId: view.max_node_id,
        cpuKhz: view.cpu_khz,
        capabilities: view.capabilities,
        totalPages: Number(view.total_pages),
        freePages: Number(view.free_pages),
        scrubPages: Number(view.scrub_pages),
        outstandingPages: Number(view.outstanding_pages),
        maxMfn: Number(view.max_mfn),
        hwCap: Array.from({ length: 8 }, (_, i) => dv.getUint32(SysctlPhysinfo.offsets.hw_cap + i * 4, true)),
      };
    },

    async getcpuinfo() {
      const arena = new CallArena();
      const info = arena.output(MAX_CPUS * SysctlCpuinfo.size);
      const init = { max_cpus: MAX_CPUS, info: info.address };
      const { view } = await caller.sysctl('xc_getcpuinfo', Sysctl.getcpuinfo, SysctlGetcpuinfo, init, arena);
      const { dv } = bytesOf(info.bytes);
      return Array.from({ length: Math.min(view.nr_cpus, MAX_CPUS) }, (_, i) =>
        dv.getBigUint64(i * SysctlCpuinfo.size, true),
      );
    },

    async availheap() {
      return (await caller.sysctl('xc_availheap', Sysctl.availheap, SysctlAvailheap, { node: -1 })).view.avail_bytes;
    },

    async cputopoinfo() {
      const arena = new CallArena();
      const topo = arena.output(MAX_CPUS * SysctlCputopo.size);
      const init = { num_cpus: MAX_CPUS, cputopo: topo.address };
      const { view } = await caller.sysctl('xc_cputopoinfo', Sysctl.cputopoinfo, SysctlCputopoinfo, init, arena);
      const bytes = bytesOf(topo.bytes);
      return Array.from({ length: Math.min(view.num_cpus, MAX_CPUS) }, (_, i) => {
        const { core, socket, node } = SysctlCputopo.view(bytes, i * SysctlCputopo.size);
        return core === ABSENT_CORE ? undefined : { core, socket, node };
      });
    },

    async numainfo() {
      const arena = new CallArena();
      const meminfo = arena.output(MAX_NODES * SysctlMeminfo.size);
      const distance = arena.output(MAX_NODES * MAX_NODES * 4);
      const init = { num_nodes: MAX_NODES, meminfo: meminfo.address, distance: distance.address };
      const { view } = await caller.sysctl('xc_numainfo', Sysctl.numainfo, SysctlNumainfo, init, arena);
      const count = Math.min(view.num_nodes, MAX_NODES);
      const distances = bytesOf(distance.bytes).dv;
      const memory = bytesOf(meminfo.bytes);
      return Array.from({ length: count }, (_, i) => {
        const { memsize, memfree } = SysctlMeminfo.view(memory, i * SysctlMeminfo.size);
        return {
          memsizeBytes: memsize,
          memfreeBytes: memfree,
          distances: Array.from({ length: count }, (__, j) => distances.getUint32((i * count + j) * 4, true)),
        };
      });
    },

    async version() {
      const [number, extra, compile, capabilities, changeset, platform, pagesize, commandline] = [
        await version(XenVer.version, 0),
        await version(XenVer.extraversion, XenVerSize.extraversion),
        await version(XenVer.compile_info, XenVerSize.compileInfo),
        await version(XenVer.capabilities, XenVerSize.capabilities),
        await version(XenVer.changeset, XenVerSize.changeset),
        await version(XenVer.platform_parameters, 8),
        await version(XenVer.pagesize, 0),
        await version(XenVer.commandline, XenVerSize.commandline),
      ];
      const by = XenVerSize.compiler;
      const domain = by + XenVerSize.compileBy;
      const date = domain + XenVerSize.compileDomain;
      return {
        major: number.result >> 16,
        minor: number.result & 0xffff,
        extra: text(extra.bytes),
        compiler: text(compile.bytes.subarray(0, by)),
        compileBy: text(compile.bytes.subarray(by, domain)),
        compileDomain: text(compile.bytes.subarray(domain, date)),
        compileDate: text(compile.bytes.subarray(date)),
        capabilities: text(capabilities.bytes),
        changeset: text(changeset.bytes),
        virtStart: bytesOf(platform.bytes).dv.getBigUint64(0, true),
        pagesize: pagesize.result,
        commandline: text(commandline.bytes),
      };
    },

    async readconsolering({ clear = false, fromIndex, maxBytes = CONSOLE_READ_BYTES } = {}) {
      const arena = new CallArena();
      const buffer = arena.output(maxBytes);
      const { view } = await caller.sysctl('xc_readconsolering', Sysctl.readconsole, SysctlReadconsole, {
        clear: clear ? 1 : 0, incremental: fromIndex === undefined ? 0 : 1, index: fromIndex ?? 0,
        buffer: buffer.address, count: maxBytes,
      }, arena); // prettier-ignore
      const bytes = buffer.bytes.subarray(0, Math.min(view.count, maxBytes));
      return { text: Buffer.from(bytes).toString('latin1'), index: view.index };
    },

    async sendDebugKeys(keys) {
      const arena = new CallArena();
      const bytes = Buffer.from(keys, 'latin1');
      const init = { keys: arena.put(bytes).address, nr_keys: bytes.length };
      await caller.sysctl('xc_send_debug_keys', Sysctl.debug_keys, SysctlDebugKeys, init, arena);
    },
  } satisfies Partial<Xenctrl>;
};
