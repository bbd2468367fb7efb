/**
 * What the hypervisor counts: one row a counter, from which come its place in the counters of a thread, its name in
 * XEN_SYSCTL_perfc_op (Xen's own, `xen/include/xen/perfc_defn.h`, where it means the same) and its metric.
 */
import { exitName, ExitReason, newCounters } from '@xenhost/cpu';
import type { EngineCounters } from '@xenhost/cpu';
import { Hypercall } from '@xenhost/xen-abi';

/** As many as XEN_SYSCTL_perfc_op tells of. */
export const NR_HYPERCALLS = 64;
export const NR_EXCEPTIONS = 32;
export const NR_EXIT_REASONS = 16;

/** A counter with one value for each of several causes. */
export interface CounterArray {
  readonly length: number;
  readonly label: string;
  /** The label's value; undefined for an element that does not exist. */
  readonly nameOf: (i: number) => string | undefined;
}

export interface CounterRow {
  /** In XEN_SYSCTL_perfc_op. */
  readonly perfc: string;
  /** Without `_total`. */
  readonly metric: string;
  readonly help: string;
  readonly array?: CounterArray;
  /** It goes down too, and a reset leaves it alone. */
  readonly gauge?: true;
  /** The metric is this many times the count. */
  readonly scale?: number;
}

const hypercallNames = new Map(Object.entries(Hypercall).map(([name, number]) => [number as number, name]));
const nrReasons = Object.keys(ExitReason).length;

const causes: CounterArray = {
  length: NR_EXIT_REASONS,
  label: 'cause',
  nameOf: (i) => (i < nrReasons ? exitName(i as ExitReason) : undefined),
};

/** The hypervisor's own; the key is the name in code. */
const own = {
  hypercalls: {
    perfc: 'hypercalls', metric: 'xen_hypercalls', help: 'Hypercalls, those in multicalls included',
    array: { length: NR_HYPERCALLS, label: 'hypercall', nameOf: (i) => hypercallNames.get(i) },
  },
  callsFromMulticall: { perfc: 'calls from multicall', metric: 'xen_multicall_entries', help: 'Hypercalls made by a multicall' },
  exceptions: {
    perfc: 'exceptions', metric: 'xen_exceptions', help: 'Exceptions of guests that came to the hypervisor',
    array: { length: NR_EXCEPTIONS, label: 'vector', nameOf: String },
  },
  exits: { perfc: 'exits by cause', metric: 'xen_exits', help: 'Returns from guest code to the hypervisor', array: causes },
  ipis: { perfc: '#IPIs', metric: 'xen_ipis', help: 'Requests posted to pCPUs' },
  schedRuns: { perfc: 'sched: runs through scheduler', metric: 'xen_sched_runs', help: 'Scheduling decisions' },
  contextSwitches: { perfc: 'sched: context switches', metric: 'xen_sched_context_switches', help: 'vCPUs put onto a pCPU in place of another' },
  pageFaultsFixed: { perfc: 'page faults handled for the guest', metric: 'xen_page_faults_fixed', help: 'Page faults that the hypervisor dealt with unseen by the guest' },
  ptwr: { perfc: 'writable pt emulations', metric: 'xen_pt_write_emulations', help: 'Stores to page tables that were emulated' },
  privops: { perfc: 'privileged instructions emulated', metric: 'xen_privileged_emulations', help: 'Privileged instructions of PV guests that were emulated' },
  eventSends: { perfc: 'event channel notifications', metric: 'xen_event_notifications', help: 'Event channel ports made pending' },
  upcalls: { perfc: 'event upcalls', metric: 'xen_event_upcalls', help: 'Event upcalls delivered to guests' },
  lockAcquired: { perfc: 'lock: acquired', metric: 'xen_lock_acquisitions', help: 'Times that the hypervisor lock was taken' },
  lockContended: { perfc: 'lock: contended', metric: 'xen_lock_contended', help: 'Times that the hypervisor lock was not free' },
  lockSlept: { perfc: 'lock: slept', metric: 'xen_lock_sleeps', help: 'Times that a thread slept for the hypervisor lock' },
  traceRecords: { perfc: 'trace: records', metric: 'xen_trace_records', help: 'Records written to trace buffers' },
  traceLost: { perfc: 'trace: lost records', metric: 'xen_trace_lost_records', help: 'Records that found no room in a trace buffer' },
} as const satisfies Readonly<Record<string, CounterRow>>; // prettier-ignore

/** Those of the engine, published from time to time. */
const engine: Readonly<Record<keyof EngineCounters, CounterRow>> = {
  slices: { perfc: 'engine: runs', metric: 'xen_engine_runs', help: 'Entries into guest code' },
  interpretedSlices: { perfc: 'engine: slices ended in interpreter', metric: 'xen_engine_interpreted_slices', help: 'Slices whose end came while the interpreter ran' },
  compiledSlices: { perfc: 'engine: slices ended in compiled code', metric: 'xen_engine_compiled_slices', help: 'Slices whose end came while compiled code ran' },
  decodedInstructions: { perfc: 'engine: instructions decoded', metric: 'xen_engine_decoded_instructions', help: 'Instructions decoded for the interpreter' },
  tlbMisses: { perfc: 'engine: TLB misses', metric: 'xen_engine_tlb_misses', help: 'Page table walks for accesses' },
  codeInvalidations: { perfc: 'engine: code invalidations', metric: 'xen_engine_code_invalidations', help: 'Frames whose code was forgotten as it was written' },
  regionsCompiled: { perfc: 'jit: regions compiled', metric: 'xen_jit_regions_compiled', help: 'Regions of hot code compiled' },
  blocksCompiled: { perfc: 'jit: blocks compiled', metric: 'xen_jit_blocks_compiled', help: 'Basic blocks compiled' },
  instructionsCompiled: { perfc: 'jit: instructions compiled', metric: 'xen_jit_instructions_compiled', help: 'Instructions compiled' },
  codeBytes: { perfc: 'jit: bytes of code', metric: 'xen_jit_code_bytes', help: 'Bytes of WebAssembly made' },
  regionsLive: { perfc: 'jit: regions live', metric: 'xen_jit_regions_live', help: 'Compiled regions that can be entered', gauge: true },
  regionsEvicted: { perfc: 'jit: regions evicted', metric: 'xen_jit_regions_evicted', help: 'Compiled regions dropped for room' },
  regionsInvalidated: { perfc: 'jit: regions invalidated', metric: 'xen_jit_regions_invalidated', help: 'Compiled regions dropped as their code was written' },
  regionsReused: { perfc: 'jit: regions of other pCPUs used', metric: 'xen_jit_regions_reused', help: 'Regions used that another pCPU compiled' },
  regionEntries: { perfc: 'jit: region entries', metric: 'xen_jit_region_entries', help: 'Entries into compiled code' },
  regionBails: { perfc: 'jit: instructions left to the interpreter', metric: 'xen_jit_bails', help: 'Instructions that compiled code left to the interpreter' },
  compileNs: { perfc: 'jit: compile time (ns)', metric: 'xen_jit_compile_seconds', help: 'Time spent compiling', scale: 1e-9 },
}; // prettier-ignore

export type OwnCounter = keyof typeof own;

/** In the order in which they are published. */
export const ENGINE_COUNTERS = Object.keys(newCounters()) as readonly (keyof EngineCounters)[];
/** All rows by key, in their order. */
export const COUNTER_ROWS: readonly (readonly [string, CounterRow])[] = [
  ...Object.entries(own),
  ...ENGINE_COUNTERS.map((key) => [key, engine[key]] as const),
];
/** Exits of one vCPU, in its record. */
export const VCPU_EXITS = causes;

export const lengthOf = (row: CounterRow): number => row.array?.length ?? 1;

let next = 0;
const places = new Map<string, number>();
for (const [key, row] of COUNTER_ROWS) {
  places.set(key, next);
  next += lengthOf(row);
}
export const NR_VALUES = next;

/** Place of a counter's first value. */
export function placeOf(key: string): number {
  const at = places.get(key);
  if (at === undefined) throw new Error(`no counter ${key}`);
  return at;
}

/** Places of the hypervisor's own counters. */
export const COUNTER = Object.fromEntries(Object.keys(own).map((key) => [key, placeOf(key)])) as Readonly<
  Record<OwnCounter, number>
>;
