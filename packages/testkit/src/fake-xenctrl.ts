/**
 * A hypervisor for tests of the toolstack: domains with memory, vCPUs and states, no guests. It keeps the promises of
 * libxenctrl's interface that xend relies on (errors by errno, memory given back on destroy, pauses counted) and no others.
 */
import { Errno, XenError, domid as asDomid, evtchnPort, type Domid, type EvtchnPort } from '@xenhost/base';
import type {
  BuildPvOptions,
  BuiltDomain,
  CpuidLeaf,
  CreditParameters,
  DomainCreateOptions,
  DomainInfo,
  PhysInfo,
  VcpuInfo,
  VersionInfo,
} from '@xenhost/libxenctrl';

const PAGES_PER_KIB = 1 / 4;
const PAGE_BYTES = 4096;
/** `vcpu_guest_context` of 64 bits. */
const CONTEXT_BYTES = 5168;
/** First frame of memory that is given anew. */
const FRESH_FRAME = 0x10_0000;
/** `shared_info.arch` of 64 bits. */
const SHARED_INFO_ARCH = 3088;

interface FakeDomain {
  readonly domid: number;
  uuid: string;
  readonly maxVcpus: number;
  pauses: number;
  pages: number;
  maxMemkb: number;
  shutdownReason: number | undefined;
  dying: boolean;
  cpuTimeNs: bigint;
  credit: CreditParameters;
  readonly affinity: bigint[];
  nextPort: number;
  /** What was set over the default policy. */
  cpuPolicy: readonly CpuidLeaf[];
  cpupool: number;
  /** Contents of frames, for those who look into a guest. */
  readonly frames: Map<number, Uint8Array>;
  sharedInfoFrame: number;
}

interface FakePool {
  readonly schedId: number;
  readonly cpus: Set<number>;
}

/** A processor of few features: leaves 1 and 7. */
export const DEFAULT_CPU_POLICY: readonly CpuidLeaf[] = [
  { leaf: 1, subleaf: 0xffff_ffff, a: 0x106ca, b: 0, c: 0x9e98_2201, d: 0x0789_8b77 },
  { leaf: 7, subleaf: 0, a: 0, b: 0x129, c: 0, d: 0 },
];

export interface FakeXenctrlOptions {
  readonly totalMiB?: number;
  readonly nrCpus?: number;
  /** Whether there can be other CPU pools than Pool-0; true by default. */
  readonly cpupools?: boolean;
}

export class FakeXenctrl {
  readonly domains = new Map<number, FakeDomain>();
  /** Calls in the order in which they came, as `name(arguments)`. */
  readonly calls: string[] = [];
  /** Makes the next calls of a name fail: name to errno. */
  readonly failures = new Map<string, number>();
  dmesg = '(XEN) Xen version 4.17\n';
  readonly #totalPages: number;
  readonly #nrCpus: number;
  readonly #cpupools: boolean;
  readonly #pools = new Map<number, FakePool>();
  #nextDomid = 1;

  constructor(options: FakeXenctrlOptions = {}) {
    this.#totalPages = (options.totalMiB ?? 1024) * 256;
    this.#nrCpus = options.nrCpus ?? 2;
    this.#cpupools = options.cpupools ?? true;
    this.#pools.set(0, { schedId: 5, cpus: new Set(Array.from({ length: this.#nrCpus }, (_, cpu) => cpu)) });
    this.domains.set(0, this.#domain(0, '00000000-0000-0000-0000-000000000000', this.#nrCpus));
  }

  #domain(domid: number, uuid: string, maxVcpus: number): FakeDomain {
    return {
      domid, uuid, maxVcpus,
      pauses: domid === 0 ? 0 : 1,
      pages: 0,
      maxMemkb: 0,
      shutdownReason: undefined,
      dying: false,
      cpuTimeNs: 1_500_000_000n,
      credit: { weight: 256, cap: 0 },
      affinity: Array.from({ length: maxVcpus }, () => (1n << 64n) - 1n),
      nextPort: 1,
      cpuPolicy: [],
      cpupool: 0,
      frames: new Map(),
      sharedInfoFrame: 0,
    }; // prettier-ignore
  }

  #enter(name: string, ...args: readonly unknown[]): void {
    this.calls.push(`${name}(${args.map(String).join(',')})`);
    const errno = this.failures.get(name);
    if (errno !== undefined) throw new XenError(errno, name);
  }

  #get(domid: number, operation: string): FakeDomain {
    const found = this.domains.get(domid);
    if (!found) throw new XenError(Errno.ESRCH, operation);
    return found;
  }

  get freePages(): number {
    let used = 0;
    for (const { pages } of this.domains.values()) used += pages;
    return this.#totalPages - used;
  }

  /** Plays a guest that shuts itself down with a reason of `sched.h`. */
  shutDown(domid: number, reason: number): void {
    this.#get(domid, 'shutDown').shutdownReason = reason;
  }

  // What xend calls

  domainCreate = async (options: DomainCreateOptions): Promise<Domid> => {
    this.#enter('domainCreate', options.uuid, options.maxVcpus);
    const domid = this.#nextDomid++;
    this.domains.set(domid, this.#domain(domid, String(options.uuid), options.maxVcpus));
    return Promise.resolve(asDomid(domid));
  };

  domainDestroy = async (domid: number): Promise<void> => {
    this.#enter('domainDestroy', domid);
    this.#get(domid, 'domainDestroy');
    this.domains.delete(domid);
    return Promise.resolve();
  };

  domainPause = async (domid: number): Promise<void> => {
    this.#enter('domainPause', domid);
    this.#get(domid, 'domainPause').pauses += 1;
    return Promise.resolve();
  };

  domainUnpause = async (domid: number): Promise<void> => {
    this.#enter('domainUnpause', domid);
    const domain = this.#get(domid, 'domainUnpause');
    if (domain.pauses === 0) throw new XenError(Errno.EINVAL, 'domainUnpause');
    domain.pauses -= 1;
    return Promise.resolve();
  };

  domainGetinfo = async (domid: number): Promise<DomainInfo | undefined> => {
    const found = this.domains.get(domid);
    return Promise.resolve(found && this.#info(found));
  };

  domainGetinfolist = async (first = 0): Promise<DomainInfo[]> => {
    this.#enter('domainGetinfolist', first);
    return Promise.resolve([...this.domains.values()].filter((d) => d.domid >= first).map((d) => this.#info(d)));
  };

  #info(domain: FakeDomain): DomainInfo {
    const crashed = domain.shutdownReason === 3;
    const ended = domain.shutdownReason !== undefined;
    return {
      domid: asDomid(domain.domid),
      ssidref: 0,
      dying: domain.dying,
      shutdown: ended && !crashed,
      crashed,
      paused: domain.pauses > 0,
      blocked: !ended && domain.pauses === 0 && domain.domid !== 0,
      running: domain.domid === 0,
      debugged: false,
      hvm: false,
      shutdownReason: domain.shutdownReason ?? 0,
      nrPages: domain.pages,
      nrOutstandingPages: 0,
      nrSharedPages: 0,
      nrPagedPages: 0,
      sharedInfoFrame: domain.sharedInfoFrame,
      cpuTimeNs: domain.cpuTimeNs,
      maxMemkb: domain.maxMemkb,
      nrOnlineVcpus: domain.maxVcpus,
      maxVcpuId: domain.maxVcpus - 1,
      handle: Buffer.from(domain.uuid.replaceAll('-', ''), 'hex'),
      uuid: domain.uuid,
      cpupool: domain.cpupool,
      gpaddrBits: 0,
    };
  }

  domainSetmaxmem = async (domid: number, maxMemKiB: number): Promise<void> => {
    this.#enter('domainSetmaxmem', domid, maxMemKiB);
    this.#get(domid, 'domainSetmaxmem').maxMemkb = maxMemKiB;
    return Promise.resolve();
  };

  domainMaxVcpus = async (domid: number, max: number): Promise<void> => {
    this.#enter('domainMaxVcpus', domid, max);
    return Promise.resolve();
  };

  domainGetCpuPolicy = async (domid: number): Promise<CpuidLeaf[]> => {
    this.#enter('domainGetCpuPolicy', domid);
    const own = this.#get(domid, 'domainGetCpuPolicy').cpuPolicy;
    const rest = DEFAULT_CPU_POLICY.filter((l) => !own.some((o) => o.leaf === l.leaf && o.subleaf === l.subleaf));
    return Promise.resolve([...rest, ...own]);
  };

  domainSetCpuPolicy = async (domid: number, leaves: readonly CpuidLeaf[]): Promise<void> => {
    this.#enter('domainSetCpuPolicy', domid);
    this.#get(domid, 'domainSetCpuPolicy').cpuPolicy = leaves;
    return Promise.resolve();
  };

  domainSetMemmapLimit = async (domid: number, limitKiB: number): Promise<void> => {
    this.#enter('domainSetMemmapLimit', domid, limitKiB);
    return Promise.resolve();
  };

  domainSetTscInfo = async (domid: number): Promise<void> => {
    this.#enter('domainSetTscInfo', domid);
    return Promise.resolve();
  };

  domainSendTrigger = async (domid: number): Promise<void> => {
    this.#enter('domainSendTrigger', domid);
    // A PV domain has nowhere to send one to.
    return Promise.reject(new XenError(Errno.ENOSYS, 'domainSendTrigger'));
  };

  vcpuGetinfo = async (domid: number, vcpu: number): Promise<VcpuInfo> => {
    const { pauses, cpuTimeNs } = this.#get(domid, 'vcpuGetinfo');
    const running = domid === 0;
    return Promise.resolve({ online: true, blocked: !running && pauses === 0, running, cpuTimeNs, cpu: vcpu });
  };

  vcpuSetaffinity = async (domid: number, vcpu: number, cpumap: bigint): Promise<bigint> => {
    this.#enter('vcpuSetaffinity', domid, vcpu, cpumap);
    if ((cpumap & ((1n << BigInt(this.#nrCpus)) - 1n)) === 0n) throw new XenError(Errno.EINVAL, 'vcpuSetaffinity');
    this.#get(domid, 'vcpuSetaffinity').affinity[vcpu] = cpumap;
    return Promise.resolve(cpumap);
  };

  vcpuGetaffinity = async (domid: number, vcpu: number): Promise<bigint> =>
    Promise.resolve(this.#get(domid, 'vcpuGetaffinity').affinity[vcpu] ?? 0n);

  schedId = (): Promise<number> => Promise.resolve(5);

  schedCreditDomainSet = async (domid: number, parameters: CreditParameters): Promise<void> => {
    this.#enter('schedCreditDomainSet', domid, parameters.weight, parameters.cap);
    this.#get(domid, 'schedCreditDomainSet').credit = parameters;
    return Promise.resolve();
  };

  schedCreditDomainGet = async (domid: number): Promise<CreditParameters> =>
    Promise.resolve(this.#get(domid, 'schedCreditDomainGet').credit);

  cpupoolGetinfolist = () =>
    Promise.resolve(
      [...this.#pools].map(([poolId, { schedId, cpus }]) => ({
        poolId, schedId, cpus: [...cpus].sort((a, b) => a - b),
        nrDomains: [...this.domains.values()].filter((domain) => domain.cpupool === poolId).length,
      })),
    ); // prettier-ignore

  cpupoolMovedomain = async (poolId: number, domid: number): Promise<void> => {
    this.#enter('cpupoolMovedomain', poolId, domid);
    if ((this.#pools.get(poolId)?.cpus.size ?? 0) === 0) throw new XenError(Errno.EINVAL, 'cpupoolMovedomain');
    this.#get(domid, 'cpupoolMovedomain').cpupool = poolId;
    return Promise.resolve();
  };

  cpupoolCreate = async (schedId: number): Promise<number> => {
    this.#enter('cpupoolCreate', schedId);
    if (!this.#cpupools) throw new XenError(Errno.EOPNOTSUPP, 'cpupoolCreate');
    const poolId = Math.max(...this.#pools.keys()) + 1;
    this.#pools.set(poolId, { schedId, cpus: new Set() });
    return Promise.resolve(poolId);
  };

  cpupoolDestroy = async (poolId: number): Promise<void> => {
    this.#enter('cpupoolDestroy', poolId);
    if (this.#pool(poolId, 'cpupoolDestroy').cpus.size > 0) throw new XenError(Errno.EBUSY, 'cpupoolDestroy');
    this.#pools.delete(poolId);
    return Promise.resolve();
  };

  cpupoolAddcpu = async (poolId: number, cpu: number): Promise<void> => {
    this.#enter('cpupoolAddcpu', poolId, cpu);
    const pool = this.#pool(poolId, 'cpupoolAddcpu');
    if ([...this.#pools.values()].some(({ cpus }) => cpus.has(cpu))) throw new XenError(Errno.EBUSY, 'cpupoolAddcpu');
    pool.cpus.add(cpu);
    return Promise.resolve();
  };

  cpupoolRemovecpu = async (poolId: number, cpu: number): Promise<void> => {
    this.#enter('cpupoolRemovecpu', poolId, cpu);
    if (!this.#pool(poolId, 'cpupoolRemovecpu').cpus.delete(cpu)) throw new XenError(Errno.EINVAL, 'cpupoolRemovecpu');
    return Promise.resolve();
  };

  /** No pCPU was ever busy. */
  getcpuinfo = (): Promise<bigint[]> => Promise.resolve(Array.from({ length: this.#nrCpus }, () => 1_000_000_000n));

  cpupoolFreeinfo = (): Promise<number[]> => {
    const taken = new Set([...this.#pools.values()].flatMap(({ cpus }) => [...cpus]));
    return Promise.resolve(Array.from({ length: this.#nrCpus }, (_, cpu) => cpu).filter((cpu) => !taken.has(cpu)));
  };

  #pool(poolId: number, operation: string): FakePool {
    const pool = this.#pools.get(poolId);
    if (!pool) throw new XenError(Errno.ENOENT, operation);
    return pool;
  }

  /** What a hypervisor with the credit scheduler, without shadow page tables and tmem, refuses. */
  #refuse(errno: number, name: string, domid?: number): Promise<never> {
    this.#enter(name, domid);
    if (domid !== undefined) this.#get(domid, name);
    return Promise.reject(new XenError(errno, name));
  }

  schedCredit2DomainGet = (domid: number) => this.#refuse(Errno.EINVAL, 'schedCredit2DomainGet', domid);
  schedCredit2DomainSet = (domid: number) => this.#refuse(Errno.EINVAL, 'schedCredit2DomainSet', domid);
  sedfDomainGet = (domid: number) => this.#refuse(Errno.EINVAL, 'sedfDomainGet', domid);
  sedfDomainSet = (domid: number) => this.#refuse(Errno.EINVAL, 'sedfDomainSet', domid);
  shadowControl = (domid: number) => this.#refuse(Errno.ENOSYS, 'shadowControl', domid);
  domainIoportPermission = (domid: number) => this.#refuse(Errno.ENOSYS, 'domainIoportPermission', domid);
  tmemControl = () => this.#refuse(Errno.ENOSYS, 'tmemControl');

  domainShutdown = async (domid: number, reason: number): Promise<void> => {
    this.#enter('domainShutdown', domid, reason);
    this.shutDown(domid, reason);
    return Promise.resolve();
  };

  domainResume = async (domid: number): Promise<void> => {
    this.#enter('domainResume', domid);
    this.#get(domid, 'domainResume').shutdownReason = undefined;
    return Promise.resolve();
  };

  domainSethandle = async (domid: number, uuid: Uint8Array | string): Promise<void> => {
    this.#enter('domainSethandle', domid, uuid);
    this.#get(domid, 'domainSethandle').uuid = String(uuid);
    return Promise.resolve();
  };

  domainGetAddressSize = async (domid: number): Promise<number> => {
    this.#get(domid, 'domainGetAddressSize');
    return Promise.resolve(64);
  };

  vcpuGetcontext = async (domid: number, vcpu: number): Promise<Uint8Array> => {
    this.#enter('vcpuGetcontext', domid, vcpu);
    return Promise.resolve(new Uint8Array(CONTEXT_BYTES).fill(vcpu + 1));
  };

  vcpuGetextstate = async (domid: number) => {
    this.#enter('vcpuGetextstate', domid);
    return Promise.resolve(this.extendedState);
  };

  /** XSAVE state of every vCPU. */
  extendedState: { readonly featureMask: bigint; readonly data: Uint8Array } | undefined;

  vcpuSetextstate = async (domid: number, vcpu: number, state: { readonly data: Uint8Array }): Promise<void> => {
    this.#enter('vcpuSetextstate', domid, vcpu, Buffer.from(state.data).toString('hex'));
    return Promise.resolve();
  };

  vcpuGetextcontext = async (domid: number, vcpu: number): Promise<Uint8Array> => {
    this.#enter('vcpuGetextcontext', domid, vcpu);
    return Promise.resolve(this.extendedContext);
  };

  /** Callbacks of 32-bit system calls of every vCPU, as the hypervisor lays them. */
  extendedContext = new Uint8Array(64);

  vcpuSetextcontext = async (domid: number, vcpu: number, context: Uint8Array): Promise<void> => {
    this.#enter(
      'vcpuSetextcontext',
      domid,
      vcpu,
      Buffer.from(context)
        .toString('hex')
        .replace(/(00)+$/, ''),
    );
    return Promise.resolve();
  };

  vcpuSetcontext = async (domid: number, vcpu: number, _context?: Uint8Array): Promise<void> => {
    this.#enter('vcpuSetcontext', domid, vcpu);
    return Promise.resolve();
  };

  readFrames = async (domid: number, gfns: Uint32Array): Promise<Uint8Array> => {
    this.#enter('readFrames', domid, gfns.length);
    const { frames } = this.#get(domid, 'readFrames');
    const pages = Array.from(gfns, (gfn) => {
      const page = frames.get(gfn);
      if (!page) throw new XenError(Errno.EINVAL, `readFrames: frame ${gfn}`);
      return page;
    });
    return Promise.resolve(Buffer.concat(pages));
  };

  writeFrames = async (domid: number, gfns: Uint32Array, data: Uint8Array): Promise<void> => {
    this.#enter('writeFrames', domid, gfns.length);
    const { frames } = this.#get(domid, 'writeFrames');
    for (const [i, gfn] of gfns.entries()) {
      if (!frames.has(gfn)) throw new XenError(Errno.EINVAL, `writeFrames: frame ${gfn}`);
      frames.set(gfn, Uint8Array.from(data.subarray(i * PAGE_BYTES, (i + 1) * PAGE_BYTES)));
    }
    return Promise.resolve();
  };

  writeFrame = async (domid: number, gfn: number, offset: number, data: Uint8Array): Promise<void> => {
    const page = this.#get(domid, 'writeFrame').frames.get(gfn);
    if (!page) throw new XenError(Errno.EINVAL, `writeFrame: frame ${gfn}`);
    page.set(data, offset);
    return Promise.resolve();
  };

  /** Types of frames, where they are not plain. */
  readonly frameTypes = new Map<number, number>();

  getPageframeInfo = async (domid: number, mfns: Uint32Array): Promise<Uint32Array> => {
    this.#get(domid, 'getPageframeInfo');
    return Promise.resolve(mfns.map((mfn) => this.frameTypes.get(mfn) ?? 0));
  };

  domainPopulatePhysmap = async (domid: number, pfns: Uint32Array): Promise<Uint32Array> => {
    this.#enter('domainPopulatePhysmap', domid, pfns.length);
    const domain = this.#get(domid, 'domainPopulatePhysmap');
    const frames = pfns.map((_, i) => FRESH_FRAME + i);
    for (const frame of frames) domain.frames.set(frame, new Uint8Array(PAGE_BYTES));
    domain.sharedInfoFrame = FRESH_FRAME - 1;
    domain.frames.set(FRESH_FRAME - 1, new Uint8Array(PAGE_BYTES));
    domain.frames.set(FRESH_FRAME - 2, new Uint8Array(PAGE_BYTES));
    domain.pages += frames.length;
    return Promise.resolve(frames);
  };

  gnttabSetupTable = async (domid: number): Promise<Uint32Array> => {
    this.#get(domid, 'gnttabSetupTable');
    return Promise.resolve(Uint32Array.of(FRESH_FRAME - 2));
  };

  mmuextPin = async (domid: number, level: number, mfn: number): Promise<void> => {
    this.#enter('mmuextPin', domid, level, mfn);
    return Promise.resolve();
  };

  domainGetTscInfo = async (domid: number) => {
    this.#get(domid, 'domainGetTscInfo');
    return Promise.resolve({ mode: 0, gtscKhz: 2_400_000, incarnation: 1, elapsedNs: 7n });
  };

  /** Plays a 64-bit guest that has told where its memory is: page n is full of n, in frame 0x1000 - n. */
  giveMemory(domid: number, nrPages: number): void {
    const domain = this.#get(domid, 'giveMemory');
    const page = (fill: (view: DataView) => void, frame: number): void => {
      const bytes = new Uint8Array(PAGE_BYTES);
      fill(new DataView(bytes.buffer));
      domain.frames.set(frame, bytes);
    };
    for (let n = 0; n < nrPages; n += 1) domain.frames.set(0x1000 - n, new Uint8Array(PAGE_BYTES).fill(n));
    page((v) => {
      for (let n = 0; n < nrPages; n += 1) v.setBigUint64(n * 8, n === 1 ? 2n ** 64n - 1n : BigInt(0x1000 - n), true);
    }, 0x2000); // prettier-ignore
    page((v) => {
      v.setBigUint64(0, 0x2000n, true);
    }, 0x2001);
    page((v) => {
      v.setBigUint64(0, 0x2001n, true);
    }, 0x2002);
    domain.sharedInfoFrame = 0x2003;
    page((v) => {
      v.setBigUint64(SHARED_INFO_ARCH, BigInt(nrPages), true);
      v.setBigUint64(SHARED_INFO_ARCH + 8, 0x2002n, true);
    }, 0x2003);
  }

  physinfo = (): Promise<PhysInfo> =>
    Promise.resolve({
      threadsPerCore: 1,
      coresPerSocket: this.#nrCpus,
      nrCpus: this.#nrCpus,
      maxCpuId: this.#nrCpus - 1,
      nrNodes: 1,
      maxNodeId: 0,
      cpuKhz: 2_400_000,
      capabilities: 2,
      totalPages: this.#totalPages,
      freePages: this.freePages,
      scrubPages: 0,
      outstandingPages: 0,
      maxMfn: this.#totalPages,
      hwCap: [0xbfebfbff, 0x2c100800, 0, 0x40, 0x77bae3ff, 0, 0x121, 0],
    });

  cputopoinfo = () =>
    Promise.resolve(Array.from({ length: this.#nrCpus }, (_, core) => ({ core, socket: 0, node: 0 })));

  numainfo = () => Promise.resolve([]);

  version = (): Promise<VersionInfo> =>
    Promise.resolve({
      major: 4,
      minor: 17,
      extra: '.0',
      compiler: 'none',
      compileBy: 'xenhost',
      compileDomain: '',
      compileDate: 'today',
      capabilities: 'xen-3.0-x86_64',
      changeset: 'unknown',
      virtStart: 0xffff800000000000n,
      pagesize: 4096,
      commandline: '',
    });

  readconsolering = async (options: { readonly clear?: boolean } = {}) => {
    const text = this.dmesg;
    if (options.clear) this.dmesg = '';
    return Promise.resolve({ text, index: text.length });
  };

  sendDebugKeys = async (keys: string): Promise<void> => {
    this.#enter('sendDebugKeys', keys);
    return Promise.resolve();
  };

  evtchnAllocUnbound = async (domid: number, remote: number): Promise<EvtchnPort> => {
    this.#enter('evtchnAllocUnbound', domid, remote);
    return Promise.resolve(evtchnPort(this.#get(domid, 'evtchnAllocUnbound').nextPort++));
  };

  /** Plays the domain builder: takes memory, finds a kernel in anything that starts with "kernel". */
  build = async (options: BuildPvOptions): Promise<BuiltDomain> => {
    this.#enter('build', options.domid, options.memoryKiB, options.cmdline ?? '');
    const domain = this.#get(options.domid, 'build');
    if (!Buffer.from(options.kernel).toString('latin1').startsWith('kernel')) throw new Error('not a kernel');
    const pages = options.memoryKiB * PAGES_PER_KIB;
    if (pages > this.freePages) throw new XenError(Errno.ENOMEM, 'populate');
    domain.pages = pages;
    return Promise.resolve({
      kernel: {
        guestOs: 'linux',
        guestVersion: '2.6',
        xenVersion: 'xen-3.0',
        loader: 'generic',
        features: '!writable_page_tables|pae_pgdir_above_4gb',
        guestType: 'xen-3.0-x86_64',
        addressBits: 64,
      },
      storeMfn: 1000 + options.domid,
      storePort: evtchnPort(options.storePort ?? 1),
      consoleMfn: 2000 + options.domid,
      consolePort: evtchnPort(options.consolePort ?? 2),
      nrPages: pages,
    });
  };
}
