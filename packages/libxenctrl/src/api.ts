/**
 * What a toolstack may ask of the hypervisor: libxc's calls under their known names. `openXenctrl(port)` gives an
 * implementation over privcmd. Answers to `tools/include/xenctrl.h` (4.17, where 4.4 has another shape: 4.4's meaning).
 * All methods reject with `XenError` (positive errno and the operation) when the hypervisor refuses.
 */
import type { Domid, EvtchnPort, GrantRef } from '@xenhost/base';
import type { MemoryOp, MemoryResult, PrivcmdPort } from '@xenhost/privcmd';

export interface DomainCreateOptions {
  /** A wanted id; the hypervisor picks the next free one when absent. */
  readonly domid?: number;
  /** 16 bytes, or text with or without dashes. */
  readonly uuid: Uint8Array | string;
  readonly maxVcpus: number;
  /** XEN_DOMCTL_CDF_* bits; 0 (PV) by default. */
  readonly flags?: number;
  readonly ssidref?: number;
  /** Highest event channel port; 0 or absent: the hypervisor's own limit. */
  readonly maxEvtchnPort?: number;
  /** Frames of the grant table; -1 or absent: default. */
  readonly maxGrantFrames?: number;
  readonly maxMaptrackFrames?: number;
  /** Highest grant table version, 1 or 2; default 2. */
  readonly maxGrantVersion?: number;
  readonly cpupool?: number;
  /** XEN_X86_EMU_* bits for HVM. */
  readonly emulationFlags?: number;
}

/** Shutdown reasons (`sched.h`, SHUTDOWN_*). */
export const ShutdownReason = { poweroff: 0, reboot: 1, suspend: 2, crash: 3, watchdog: 4, softReset: 5 } as const;

/** One domain as `xc_domain_getinfo` shows it. */
export interface DomainInfo {
  readonly domid: Domid;
  readonly ssidref: number;
  readonly dying: boolean;
  /** Shut down for another reason than a crash. */
  readonly shutdown: boolean;
  /** Shut down with SHUTDOWN_crash. */
  readonly crashed: boolean;
  readonly paused: boolean;
  readonly blocked: boolean;
  readonly running: boolean;
  readonly debugged: boolean;
  readonly hvm: boolean;
  /** A `ShutdownReason` when `shutdown` or `crashed`; 0 otherwise. */
  readonly shutdownReason: number;
  readonly nrPages: number;
  readonly nrOutstandingPages: number;
  readonly nrSharedPages: number;
  readonly nrPagedPages: number;
  /** Frame of shared_info. */
  readonly sharedInfoFrame: number;
  readonly cpuTimeNs: bigint;
  readonly maxMemkb: number;
  readonly nrOnlineVcpus: number;
  /** -1 when the domain has no vCPU. */
  readonly maxVcpuId: number;
  /** The 16 bytes of the UUID. */
  readonly handle: Uint8Array;
  /** The same as text with dashes. */
  readonly uuid: string;
  readonly cpupool: number;
  readonly gpaddrBits: number;
}

export interface VcpuInfo {
  readonly online: boolean;
  readonly blocked: boolean;
  readonly running: boolean;
  readonly cpuTimeNs: bigint;
  /** pCPU that runs it or ran it last. */
  readonly cpu: number;
}

export interface PhysInfo {
  readonly threadsPerCore: number;
  readonly coresPerSocket: number;
  readonly nrCpus: number;
  readonly maxCpuId: number;
  readonly nrNodes: number;
  readonly maxNodeId: number;
  readonly cpuKhz: number;
  /** XEN_SYSCTL_PHYSCAP_* bits. */
  readonly capabilities: number;
  readonly totalPages: number;
  readonly freePages: number;
  readonly scrubPages: number;
  readonly outstandingPages: number;
  readonly maxMfn: number;
  readonly hwCap: readonly number[];
}

export interface ExtendedState {
  /** Features that the state has room for. */
  readonly featureMask: bigint;
  readonly data: Uint8Array;
}

export interface CpuTopology {
  readonly core: number;
  readonly socket: number;
  readonly node: number;
}

export interface NumaNode {
  readonly memsizeBytes: bigint;
  readonly memfreeBytes: bigint;
  /** Distance to each node. */
  readonly distances: readonly number[];
}

/** What `xen_version` tells. */
export interface VersionInfo {
  readonly major: number;
  readonly minor: number;
  /** ".7" and the like. */
  readonly extra: string;
  readonly compiler: string;
  readonly compileBy: string;
  readonly compileDomain: string;
  readonly compileDate: string;
  /** "xen-3.0-x86_64 xen-3.0-x86_32p ...". */
  readonly capabilities: string;
  readonly changeset: string;
  readonly virtStart: bigint;
  readonly pagesize: number;
  readonly commandline: string;
}

export interface CreditParameters {
  /** 1..65535, 256 by default. */
  readonly weight: number;
  /** Hundredths of a CPU; 0 = no limit. */
  readonly cap: number;
}

export interface CreditSchedule {
  readonly tsliceMs: number;
  readonly ratelimitUs: number;
}

/** Times in nanoseconds. */
export interface SedfParameters {
  readonly period: number;
  readonly slice: number;
  readonly latency: number;
  readonly extratime: number;
  readonly weight: number;
}

export interface CpupoolInfo {
  readonly poolId: number;
  /** A `XenScheduler` id. */
  readonly schedId: number;
  readonly nrDomains: number;
  /** pCPUs that belong to it. */
  readonly cpus: readonly number[];
}

export interface TscInfo {
  readonly mode: number;
  readonly gtscKhz: number;
  readonly incarnation: number;
  readonly elapsedNs: bigint;
}

export interface CpuidLeaf {
  readonly leaf: number;
  /** 0xffffffff for none. */
  readonly subleaf: number;
  readonly a: number;
  readonly b: number;
  readonly c: number;
  readonly d: number;
}

export interface E820Entry {
  readonly addr: bigint;
  readonly size: bigint;
  /** 1 = RAM. */
  readonly type: number;
}

/** Trace buffers: frames of DOMID.XEN from `mfn` on hold t_info. */
export interface TraceBufferInfo {
  readonly mfn: number;
  readonly sizeBytes: number;
  readonly eventMask: number;
}

/** A performance counter: its values by pCPU and last the control plane, or by element of an array. */
export interface PerfCounter {
  readonly name: string;
  readonly values: readonly number[];
}

export interface ConsoleReadOptions {
  /** Empty the ring after reading. */
  readonly clear?: boolean;
  /** Start at this index of the ring instead of at its oldest byte. */
  readonly fromIndex?: number;
  readonly maxBytes?: number;
}

export interface Xenctrl {
  /** The connection under it: events, grants and raw hypercalls. */
  readonly privcmd: PrivcmdPort;
  close(): Promise<void>;

  /** xc_domain_create. Resolves to the new domain's id; it is paused and has no memory. */
  domainCreate(options: DomainCreateOptions): Promise<Domid>;
  /** xc_domain_destroy. Idempotent until the id is gone (ESRCH). */
  domainDestroy(domid: number): Promise<void>;
  /** xc_domain_pause: counts; each pause needs an unpause. */
  domainPause(domid: number): Promise<void>;
  /** xc_domain_unpause. */
  domainUnpause(domid: number): Promise<void>;
  /** xc_domain_shutdown: shuts it down from outside with a `ShutdownReason` (SCHEDOP_remote_shutdown). */
  domainShutdown(domid: number, reason: number): Promise<void>;
  /** xc_domain_resume. */
  domainResume(domid: number): Promise<void>;
  /** xc_domain_getinfo of exactly this domain; undefined when there is none. */
  domainGetinfo(domid: number): Promise<DomainInfo | undefined>;
  /** xc_domain_getinfolist: domains from `first` on in order of id, Domain-0 included. */
  domainGetinfolist(first?: number, max?: number): Promise<DomainInfo[]>;
  /** xc_domain_setmaxmem. */
  domainSetmaxmem(domid: number, maxMemKiB: number): Promise<void>;
  /** xc_domain_max_vcpus: allocates the vCPUs; must be the number given at creation. */
  domainMaxVcpus(domid: number, max: number): Promise<void>;
  /** xc_domain_set_memmap_limit: what XENMEM_memory_map tells the guest: one RAM entry from 0. */
  domainSetMemmapLimit(domid: number, mapLimitKiB: number): Promise<void>;
  /** xc_domain_set_memory_map. */
  domainSetMemoryMap(domid: number, entries: readonly E820Entry[]): Promise<void>;
  /** XEN_DOMCTL_set_address_size: width of the guest's words, before it has memory. */
  domainSetAddressSize(domid: number, bits: 32 | 64): Promise<void>;
  /** xc_domain_get_guest_width, in bits. */
  domainGetAddressSize(domid: number): Promise<number>;
  /** xc_domain_sethandle. */
  domainSethandle(domid: number, uuid: Uint8Array | string): Promise<void>;
  /** XEN_DOMCTL_hypercall_init: fills a frame with the hypercall page. */
  domainHypercallInit(domid: number, gmfn: number): Promise<void>;
  /** xc_domain_set_time_offset. */
  domainSetTimeOffset(domid: number, seconds: number): Promise<void>;
  /** xc_domain_set_tsc_info. */
  domainSetTscInfo(domid: number, info: TscInfo): Promise<void>;
  /** xc_domain_get_tsc_info. */
  domainGetTscInfo(domid: number): Promise<TscInfo>;
  /** xc_set_domain_cpu_policy: leaves given replace those of the policy. */
  domainSetCpuPolicy(domid: number, leaves: readonly CpuidLeaf[]): Promise<void>;
  /** xc_get_domain_cpu_policy. */
  domainGetCpuPolicy(domid: number): Promise<CpuidLeaf[]>;
  /** xc_domain_send_trigger. */
  domainSendTrigger(domid: number, trigger: number, vcpu?: number): Promise<void>;

  /** xc_vcpu_getinfo. */
  vcpuGetinfo(domid: number, vcpu: number): Promise<VcpuInfo>;
  /** xc_vcpu_setaffinity, hard affinity: a bit for each pCPU. Resolves to what is in effect. */
  vcpuSetaffinity(domid: number, vcpu: number, cpumap: bigint): Promise<bigint>;
  /** xc_vcpu_getaffinity, hard affinity. */
  vcpuGetaffinity(domid: number, vcpu: number): Promise<bigint>;
  /** xc_vcpu_setcontext: `context` is a vcpu_guest_context of the domain's width. */
  vcpuSetcontext(domid: number, vcpu: number, context: Uint8Array): Promise<void>;
  /**
   * XEN_DOMCTL_getvcpuextstate: XSAVE state as Xen lays it (XCR0, XCR0 ever set, the XSAVE area), or undefined for a vCPU
   * that has none. ENOSYS where the hypervisor does not tell.
   */
  vcpuGetextstate(domid: number, vcpu: number): Promise<ExtendedState | undefined>;
  /** XEN_DOMCTL_setvcpuextstate: before the domain runs. */
  vcpuSetextstate(domid: number, vcpu: number, state: ExtendedState): Promise<void>;
  /** XEN_DOMCTL_get_ext_vcpucontext: `xen_domctl_ext_vcpucontext` as it is. */
  vcpuGetextcontext(domid: number, vcpu: number): Promise<Uint8Array>;
  /** XEN_DOMCTL_set_ext_vcpucontext, of that vCPU whatever number `context` has. */
  vcpuSetextcontext(domid: number, vcpu: number, context: Uint8Array): Promise<void>;
  /** xc_vcpu_getcontext: of a paused domain. */
  vcpuGetcontext(domid: number, vcpu: number): Promise<Uint8Array>;

  /**
   * xc_domain_populate_physmap_exact: gives memory. PV: resolves to the machine frames in the order of `pfns` (and sets
   * their M2P entries); HVM: the pfns are where it appears. `order`: log2 of the pages of each extent.
   */
  domainPopulatePhysmap(domid: number, pfns: Uint32Array, order?: number): Promise<Uint32Array>;
  /** xc_domain_increase_reservation_exact: PV only; the new frames. */
  domainIncreaseReservation(domid: number, count: number, order?: number): Promise<Uint32Array>;
  /** xc_domain_decrease_reservation_exact. */
  domainDecreaseReservation(domid: number, frames: Uint32Array, order?: number): Promise<void>;
  /** xc_domain_maximum_gpfn. */
  domainMaximumGpfn(domid: number): Promise<number>;
  /** XENMEM_current_reservation, pages. */
  domainCurrentReservation(domid: number): Promise<number>;
  /** XENMEM_maximum_reservation, pages. */
  domainMaximumReservation(domid: number): Promise<number>;
  /** xc_map_foreign_bulk for reading: the frames' bytes one after the other. */
  readFrames(domid: number, gfns: Uint32Array): Promise<Uint8Array>;
  /** xc_map_foreign_bulk for writing: whole frames, `data` holds them one after the other. */
  writeFrames(domid: number, gfns: Uint32Array, data: Uint8Array): Promise<void>;
  /** Bytes within one frame. */
  readFrame(domid: number, gfn: number, offset?: number, length?: number): Promise<Uint8Array>;
  writeFrame(domid: number, gfn: number, offset: number, data: Uint8Array): Promise<void>;
  /** xc_mmuext_op MMUEXT_PIN_L1..L4_TABLE. */
  mmuextPin(domid: number, level: 1 | 2 | 3 | 4, mfn: number): Promise<void>;
  mmuextUnpin(domid: number, mfn: number): Promise<void>;
  /** xc_mmu_update MMU_MACHPHYS_UPDATE: machine frame i gets pfn i. */
  machphysUpdate(domid: number, mfns: Uint32Array, pfns: Uint32Array): Promise<void>;
  /** xc_get_pfn_type_batch (XEN_DOMCTL_getpageframeinfo3): a `Pfinfo` word for each frame. */
  getPageframeInfo(domid: number, mfns: Uint32Array): Promise<Uint32Array>;

  /** xc_sched_id. */
  schedId(): Promise<number>;
  /** xc_sched_credit_domain_set. */
  schedCreditDomainSet(domid: number, parameters: CreditParameters): Promise<void>;
  /** xc_sched_credit_domain_get. */
  schedCreditDomainGet(domid: number): Promise<CreditParameters>;
  /** xc_sched_credit_params_get. */
  schedCreditParamsGet(cpupool?: number): Promise<CreditSchedule>;
  /** xc_sched_credit_params_set. */
  schedCreditParamsSet(schedule: CreditSchedule, cpupool?: number): Promise<CreditSchedule>;
  /** xc_cpupool_getinfo of each pool. */
  cpupoolGetinfolist(): Promise<CpupoolInfo[]>;
  /** xc_cpupool_movedomain. */
  cpupoolMovedomain(poolId: number, domid: number): Promise<void>;
  /** xc_cpupool_create: a pool without pCPUs, of the next free id. Resolves to its id. */
  cpupoolCreate(schedId: number): Promise<number>;
  /** xc_cpupool_destroy: of a pool without pCPUs and domains. */
  cpupoolDestroy(poolId: number): Promise<void>;
  /** xc_cpupool_addcpu: a pCPU that no pool has. */
  cpupoolAddcpu(poolId: number, cpu: number): Promise<void>;
  /** xc_cpupool_removecpu. */
  cpupoolRemovecpu(poolId: number, cpu: number): Promise<void>;
  /** xc_cpupool_freeinfo: pCPUs that no pool has. */
  cpupoolFreeinfo(): Promise<number[]>;

  /** xc_sched_credit2_domain_get. */
  schedCredit2DomainGet(domid: number): Promise<Pick<CreditParameters, 'weight'>>;
  /** xc_sched_credit2_domain_set; weight 0 leaves it. */
  schedCredit2DomainSet(domid: number, weight: number): Promise<void>;
  /** xc_sedf_domain_get (Xen 4.4). */
  sedfDomainGet(domid: number): Promise<SedfParameters>;
  /** xc_sedf_domain_set (Xen 4.4). */
  sedfDomainSet(domid: number, parameters: SedfParameters): Promise<void>;
  /** xc_shadow_control: `op` of XEN_DOMCTL_SHADOW_OP_*. Resolves to `mb` as the hypervisor left it. */
  shadowControl(domid: number, op: number, mb?: number): Promise<number>;
  /** xc_domain_ioport_permission. */
  domainIoportPermission(domid: number, firstPort: number, nrPorts: number, allow: boolean): Promise<void>;
  /** xc_tmem_control (Xen 4.4; as a sysctl since 4.6, gone since 4.13). Resolves to its result. */
  tmemControl(subop: number, cliId: number, arg1?: number, arg2?: number): Promise<number>;

  /** xc_physinfo. */
  physinfo(): Promise<PhysInfo>;
  /** xc_getcpuinfo: idle nanoseconds of each pCPU. */
  getcpuinfo(): Promise<bigint[]>;
  /** xc_availheap, bytes. */
  availheap(): Promise<bigint>;
  /** xc_cputopoinfo; undefined for a pCPU that is offline. */
  cputopoinfo(): Promise<(CpuTopology | undefined)[]>;
  /** xc_numainfo. */
  numainfo(): Promise<NumaNode[]>;
  /** xc_version, all sub-operations. */
  version(): Promise<VersionInfo>;
  /** xc_readconsolering: text and the index after it. */
  readconsolering(options?: ConsoleReadOptions): Promise<{ readonly text: string; readonly index: number }>;
  /** xc_send_debug_keys. */
  sendDebugKeys(keys: string): Promise<void>;

  /**
   * xc_tbuf_enable: trace buffers of so many pages each, unless there are buffers already, which stay as they are; tracing
   * is on then. Resolves to where t_info is.
   */
  tbufEnable(pages: number): Promise<TraceBufferInfo>;
  /** xc_tbuf_disable; ends sampling too. */
  tbufDisable(): Promise<void>;
  /** XEN_SYSCTL_TBUFOP_get_info; `mfn` 0 when there are no buffers. */
  tbufGetInfo(): Promise<TraceBufferInfo>;
  /** xc_tbuf_set_evt_mask: `TraceClass` bits. */
  tbufSetEvtMask(mask: number): Promise<void>;
  /** xc_tbuf_set_cpu_mask: a bit for each pCPU. */
  tbufSetCpuMask(mask: bigint): Promise<void>;
  /** xc_perfc_query. */
  perfcQuery(): Promise<PerfCounter[]>;
  /** xc_perfc_reset. */
  perfcReset(): Promise<void>;
  /**
   * Not of libxc: samples where a domain (DOMID.IDLE: every domain) runs, as PROFILE_SAMPLE records in the trace buffers,
   * which must be on. `hz` of each pCPU on average; 0 ends it.
   */
  profileSet(hz: number, domid: number): Promise<void>;

  /** xc_evtchn_alloc_unbound: a port of `domid` that `remote` may bind. */
  evtchnAllocUnbound(domid: number, remote: number): Promise<EvtchnPort>;
  /** xc_evtchn_status: EVTCHNSTAT_* of a port of `domid` (0 closed, 1 unbound, 2 interdomain, 3 pirq, 4 virq, 5 ipi). */
  evtchnStatus(domid: number, port: number): Promise<number>;
  /** xc_evtchn_reset: closes all ports of `domid`. */
  evtchnReset(domid: number): Promise<void>;

  /** xc_gnttab_query_size. */
  gnttabQuerySize(domid: number): Promise<{ readonly nrFrames: number; readonly maxNrFrames: number }>;
  /** xc_gnttab_get_version. */
  gnttabGetVersion(domid: number): Promise<number>;
  /** XENMEM/GNTTABOP_setup_table on behalf of `domid`: frames of its grant table. */
  gnttabSetupTable(domid: number, nrFrames: number): Promise<Uint32Array>;
  /** Reads within one page that `domid` granted to Domain-0. */
  gnttabRead(domid: number, gref: GrantRef, offset: number, length: number): Promise<Uint8Array>;
  gnttabWrite(domid: number, gref: GrantRef, offset: number, data: Uint8Array): Promise<void>;
  /** Batches of any size: split as the link demands. */
  memory(ops: readonly MemoryOp[]): Promise<readonly MemoryResult[]>;

  /** xc_hvm_param_set. */
  hvmParamSet(domid: number, index: number, value: bigint): Promise<void>;
  /** xc_hvm_param_get. */
  hvmParamGet(domid: number, index: number): Promise<bigint>;
}
