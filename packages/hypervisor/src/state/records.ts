/**
 * Records in machine memory that several subsystems share. Each subsystem appends fields to the block of its own name
 * and touches another's only through that subsystem's functions. All are read and written with the hypervisor lock held
 * (`lock.ts`), but for those marked atomic.
 */
import { array, layout } from '@xenhost/base';
import { MAX_VCPUS_PER_DOMAIN } from './memory-map.ts';

/** One per host, in `MemoryMap.header`. */
export const HeaderLayout = layout('header', {
  /** Atomic: the hypervisor lock, see lock.ts. */
  lock: 'u32',
  /** Atomic: wakes the control plane (main thread) by a message when it goes from 0 to 1. */
  controlDoorbell: 'u32',
  nrPcpus: 'u32',
  nextDomid: 'u32',
  nrDomains: 'u32',
  /** System time 0 in monotonic and wall-clock nanoseconds. */
  bootMonotonicNs: 'u64',
  bootWallNs: 'u64',
  tscKHz: 'u32',
  /* mm */
  freeFrames: 'u32',
  heapCursor: 'u32',
  /** Page tables that map the M2P read-only at 0xffff800000000000: the L3 in slot 256 of each L4. */
  m2pL3: 'u32',
  /* console */
  consoleProducer: 'u32',
  consoleConsumer: 'u32',
  consoleSequence: 'u32',
  /* mm: frame allocator (mm/heap.ts owns these) */
  mmPrivate: array('u64', 32),
  /* domain: records in order of domid, linked by `nextDomain` */
  domainListHead: 'u32',
  /* sched: pCPU + 1 that is leaving its pool, 0 for none */
  movingPcpu: 'u32',
  /** Atomic: 1 while the control plane waits for the lock; pCPUs step back for it. */
  controlWaiting: 'u32',
  /** Atomic: raised when a vCPU left its pCPU; the control plane waits on it. */
  descheduled: 'u32',
  /** A 64-bit float: changes of page table entries that engines may have cached (pcpu/translations.ts). */
  tableChanges: 'u64',
  /* trace */
  /** Observing bits: what the pCPUs are to write into their trace buffers. */
  observing: 'u32',
  traceEventMask: 'u32',
  traceCpuMask: 'u64',
  /** First frame of t_info, 0 for none yet; its frames; frames of each buffer. */
  traceInfoMfn: 'u32',
  traceInfoFrames: 'u32',
  traceBufferFrames: 'u32',
  /** Sampling: mean time between two samples of a pCPU, and of which domain (DOMID.IDLE: of all). */
  profilePeriodNs: 'u64',
  profileDomid: 'u32',
});

/** One per domain, a frame of its own; found through the domain index. */
export const DomainLayout = layout('domain', {
  domid: 'u32',
  /** DomainFlag bits. */
  flags: 'u32',
  /** Toolstack pauses outstanding; vCPUs run only at 0. */
  pauseCount: 'u32',
  shutdownCode: 'u32',
  nrVcpus: 'u32',
  maxVcpus: 'u32',
  ssidref: 'u32',
  /** Slot of its CPU pool, see PoolLayout. */
  poolSlot: 'u32',
  createdNs: 'u64',
  uuid: array('u8', 16),
  /** Frames of the vCPU records, 0 for none. */
  vcpuFrames: array('u32', MAX_VCPUS_PER_DOMAIN),
  sharedInfoMfn: 'u32',
  /** Bits of types below 32; `m2p_strict` is accepted and has no effect here. */
  vmAssist: 'u32',
  timeOffsetSeconds: 'i64',
  /** Features and e820 that the toolstack set; frame of its table and its number of entries. */
  memoryMapMfn: 'u32',
  memoryMapEntries: 'u32',
  cpuidPolicyMfn: 'u32',
  cpuidPolicyEntries: 'u32',
  /* mm */
  totalPages: 'u32',
  maxPages: 'u32',
  xenHeapPages: 'u32',
  pageListHead: 'u32',
  /** L3 of the per-domain area (slot 260 of each L4): GDT, LDT windows of its vCPUs. */
  perDomainL3: 'u32',
  mmPrivate: array('u64', 16),
  /* event: 1 when FIFO, number of ports, limits, frames of the port buckets */
  eventFifo: 'u32',
  eventPorts: 'u32',
  eventMaxPort: 'u32',
  eventPrivate: array('u64', 64),
  /* grant */
  grantVersion: 'u32',
  grantFrames: 'u32',
  grantMaxFrames: 'u32',
  grantMaxMaptrack: 'u32',
  grantPrivate: array('u64', 128),
  /* sched */
  weight: 'u32',
  cap: 'u32',
  /* domain */
  /** Frame of the next domain record in order of domid, 0 at the end. */
  nextDomain: 'u32',
  /** XEN_DOMCTL_CDF_*, and emulation flags, as given at creation. */
  createFlags: 'u32',
  emulationFlags: 'u32',
  tscMode: 'u32',
  tscIncarnation: 'u32',
  maxEventPort: 'u32',
  /** How far destruction has come. */
  relinquishStep: 'u32',
  /** SCHEDOP_watchdog: absolute deadlines of the two timers, 0 for off. */
  watchdogNs: array('u64', 2),
  /** Domain that this one may control (set_target), 0 for none. */
  targetDomid: 'u32',
  /** A 64-bit float: changes of the domain's page table entries that engines may have cached (pcpu/translations.ts). */
  tableGeneration: 'u64',
});

export const DomainFlag = {
  dying: 1, shutdown: 2, privileged: 4, pv: 8, pv32: 16, hvm: 32, pausedByController: 64, creating: 128, crashed: 256,
  destroyed: 512, shuttingDown: 1024,
} as const; // prettier-ignore

/** Number of frames in a vCPU record: this layout, the trap table and the CPU state, in this order. */
export const VCPU_RECORD_FRAMES = 4;
/** Offsets in the record: 256 trap entries {u64 address, u16 cs, u16 flags} of 16 bytes; then the engine's state. */
export const VCPU_TRAP_TABLE = 4096;
export const VCPU_CPU_STATE = 8192;

/** One per vCPU. */
export const VcpuLayout = layout('vcpu', {
  domid: 'u32',
  vcpuId: 'u32',
  /** VcpuFlag bits. */
  flags: 'u32',
  pauseCount: 'u32',
  /** pCPU that runs it or ran it last. */
  processor: 'u32',
  /** Atomic: 1 while a pCPU has it loaded. */
  isRunning: 'u32',
  affinity: 'u64',
  /** pCPUs that it may run on: hard affinity within its pool. */
  allowed: 'u64',
  /* runstate (public/vcpu.h) */
  runstate: 'u32',
  runstateEntryNs: 'u64',
  runstateTimes: array('u64', 4),
  runstateAreaVa: 'u64',
  timeAreaVa: 'u64',
  /* where its vcpu_info is: frame and offset, in shared_info or registered */
  infoMfn: 'u32',
  infoOffset: 'u32',
  infoRegistered: 'u32',
  /* timers: absolute system-time ns, 0 for off */
  timerDeadlineNs: 'u64',
  periodicDeadlineNs: 'u64',
  periodicPeriodNs: 'u64',
  pollDeadlineNs: 'u64',
  pollPorts: array('u32', 128),
  pollCount: 'u32',
  /* pv: modes, tables, callbacks */
  kernelMode: 'u32',
  guestTable: 'u32',
  guestTableUser: 'u32',
  kernelSs: 'u64',
  kernelSp: 'u64',
  eventCallback: 'u64',
  failsafeCallback: 'u64',
  syscallCallback: 'u64',
  syscall32Callback: 'u64',
  sysenterCallback: 'u64',
  nmiCallback: 'u64',
  /** PvCallbackFlag bits: which callbacks mask events. */
  callbackFlags: 'u32',
  eventCallbackCs: 'u32',
  failsafeCallbackCs: 'u32',
  syscall32Cs: 'u32',
  sysenterCs: 'u32',
  iopl: 'u32',
  ioBitmapVa: 'u64',
  ioBitmapPorts: 'u32',
  gdtEntries: 'u32',
  gdtFrames: array('u32', 16),
  ldtBase: 'u64',
  ldtEntries: 'u32',
  ctrlreg: array('u64', 8),
  /** The guest's view of debug registers; the engine's hold what is really armed. */
  debugreg: array('u64', 8),
  /** All that XCR0 has ever been; 0 before the guest's first XSETBV. */
  xcr0Accum: 'u64',
  pendingException: 'u32',
  pvPrivate: array('u64', 32),
  /* event */
  eventPrivate: array('u64', 32),
  /** virq to port. */
  virqPorts: array('u32', 24),
  /* mm: a multi-step operation that will be continued */
  mmPrivate: array('u64', 16),
  /* sched: credit scheduler */
  affinitySoft: 'u64',
  credit: 'i32',
  /** Time it ran that makes no whole credit yet. */
  creditRemainderNs: 'u32',
  /** SchedPriority. */
  priority: 'i32',
  /** Neighbours in the run queue of `processor`: frames, 0 for none. */
  runqNext: 'u32',
  runqPrev: 'u32',
  onRunq: 'u32',
  /** SchedVcpuFlag bits. */
  schedFlags: 'u32',
  /** pCPU + 1 whose engine has loaded these registers last and still holds them, 0 for none: it need not load them again. */
  loadedOn: 'u32',
  /** Times it was scheduled. */
  schedules: 'u32',
  /* trace: exits by reason, as 64-bit floats that its pCPU counts up */
  exits: array('u64', 16),
  /** pCPU + 1 whose engine may use the translations that it made for this vCPU when it loads it again, 0 for none. */
  translationsOn: 'u32',
  /** A 64-bit float: the domain's `tableGeneration` that the vCPU's translations agree with (pcpu/translations.ts). */
  tableGeneration: 'u64',
});

export const VcpuFlag = {
  initialised: 1, down: 2, blocked: 4, polling: 8, pausedBySelf: 16, nmiPending: 32,
} as const; // prettier-ignore

/** One per pCPU, in `MemoryMap.pcpus`. */
export const PcpuLayout = layout('pcpu', {
  /** Atomic: 0 idle or in the hypervisor, 1 running guest code. */
  inGuest: 'u32',
  /** Atomic: PcpuRequest bits asked by others. */
  requests: 'u32',
  /** Atomic: a worker that sleeps waits on this word; raise it and notify to wake it. */
  wake: 'u32',
  /** Atomic: raised each time the worker has served its requests. */
  served: 'u32',
  /** Record frame of the loaded vCPU, 0 for none. */
  current: 'u32',
  online: 'u32',
  idleNs: 'u64',
  /**
   * Frames that others ask to drop (code or write translations) since this one last looked; one too many asks for everything. With many
   * guests a pCPU that sleeps or runs something long is asked for dozens of them: what first runs here is announced to all others.
   */
  dropCount: 'u32',
  dropFrames: array('u32', 256),
  /* sched */
  runqHead: 'u32',
  runqTail: 'u32',
  /** What it runs: frame of a vCPU record, 0 for idle. `current` stays loaded while idle. */
  running: 'u32',
  /** Atomic: 1 while it sleeps on `wake`. */
  sleeping: 'u32',
  /** System time of the next vCPU timer here, 0 for none. */
  nextTimerNs: 'u64',
  nextTickNs: 'u64',
  /** Until when the running vCPU has been charged. */
  chargedNs: 'u64',
  sliceEndNs: 'u64',
  idleSinceNs: 'u64',
  /** Slot of its CPU pool + 1, 0 while it is in none. */
  pool: 'u32',
  /* trace: atomic lock of its buffer; records that found no room since the last one that did, TSC of the first */
  traceLock: 'u32',
  traceLost: 'u32',
  traceLostTsc: 'u64',
});

/** CPU pools, in slots of `MemoryMap.pools`; Pool-0 is in slot 0. Each has a credit scheduler of its own. */
export const PoolLayout = layout('pool', {
  /** 1 while there is such a pool. */
  used: 'u32',
  poolId: 'u32',
  /** Its pCPUs, one that is leaving no more among them. */
  cpus: 'u64',
  /** Domains in it, those included that are dead and not gone. */
  nrDomains: 'u32',
  /** Number of parked (capped) vCPUs. */
  nrParked: 'u32',
  /** Next credit accounting. */
  accountDeadlineNs: 'u64',
  timesliceUs: 'u32',
  ratelimitUs: 'u32',
});

/** `VcpuLayout.priority`: as the credit scheduler orders its run queues. */
export const SchedPriority = { boost: 0, under: -1, over: -2, idle: -64 } as const;
export const SchedVcpuFlag = { parked: 1, yielded: 2, active: 4 } as const;

/** `HeaderLayout.observing`. */
export const Observing = { trace: 1, profile: 2 } as const;

export const PcpuRequest = {
  reschedule: 1,
  flushTlb: 2,
  flushTlbGlobal: 4,
  dropCode: 8,
  dropWrites: 16,
  stop: 32,
  /** The running vCPU has something to take: look before it goes on. */
  attend: 64,
} as const;
