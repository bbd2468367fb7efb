/** Samples of guests: PROFILE_SAMPLE records to what they say, counted by place. Does no I/O. */
import { exitName, ExitReason } from '@xenhost/cpu';
import type { SymbolTable } from '@xenhost/elf';
import { Hypercall, ProfileFlag, TraceEvent } from '@xenhost/xen-abi';
import type { TraceRecord } from '../records.ts';

export type SampleMode = 'kernel' | 'user' | 'xen';

export interface Sample {
  readonly domid: number;
  readonly mode: SampleMode;
  readonly rip: bigint;
  /** What the hypervisor worked for; of mode `xen` only. */
  readonly work: string | undefined;
  /** Whether compiled code ran; undefined where the sample does not tell. */
  readonly compiled: boolean | undefined;
}

const hypercallNames = new Map(Object.entries(Hypercall).map(([name, number]) => [number as number, name]));
const HYPERCALL_SHIFT = 16;
const EXIT_SHIFT = 8;
const EXIT_MASK = 0xff;
const PAGE_MASK = 0xfffn;

/** The sample in a record; undefined when the record is another. */
export function sampleOf({ event, data }: TraceRecord): Sample | undefined {
  const [vcpu, info, low, high] = data;
  if (event !== TraceEvent.PROFILE_SAMPLE || vcpu === undefined || info === undefined) return undefined;
  const exit = (info >>> EXIT_SHIFT) & EXIT_MASK;
  const inXen = (info & ProfileFlag.xen) !== 0;
  return {
    domid: vcpu >>> 16,
    mode: inXen ? 'xen' : (info & ProfileFlag.kernel) !== 0 ? 'kernel' : 'user',
    rip: (BigInt(high ?? 0) << 32n) | BigInt(low ?? 0),
    work: inXen ? workOf(info, exit) : undefined,
    compiled: !inXen && exit === ExitReason.budget ? (info & ProfileFlag.compiled) !== 0 : undefined,
  };
}

function workOf(info: number, exit: number): string {
  if ((info & ProfileFlag.hypercall) !== 0) {
    const number = info >>> HYPERCALL_SHIFT;
    return `hypercall ${hypercallNames.get(number) ?? number}`;
  }
  return exit === ExitReason.budget ? 'scheduler' : exitName(exit as ExitReason);
}

/** Samples by domain, mode and function. */
export class Profile {
  total = 0;
  /** Records that the buffers had no room for. */
  lost = 0;
  readonly modes = { kernel: 0, user: 0, xen: 0 };
  /** Samples that tell the tier: all of them, and those of compiled code. */
  readonly tiers = { known: 0, compiled: 0 };
  readonly #stacks = new Map<string, number>();
  readonly #symbols: SymbolTable;

  constructor(symbols: SymbolTable) {
    this.#symbols = symbols;
  }

  add(record: TraceRecord, domid: number | undefined): void {
    if (record.event === TraceEvent.LOST_RECORDS) this.lost += record.data[0] ?? 0;
    const sample = sampleOf(record);
    if (!sample || (domid !== undefined && sample.domid !== domid)) return;
    this.total++;
    this.modes[sample.mode]++;
    if (sample.compiled !== undefined) this.tiers.known++;
    if (sample.compiled) this.tiers.compiled++;
    const frames = [`domain ${sample.domid}`, sample.mode, ...(sample.work === undefined ? [] : [sample.work])];
    const stack = [...frames, this.#place(sample.rip)].join(';');
    this.#stacks.set(stack, (this.#stacks.get(stack) ?? 0) + 1);
  }

  /** Frames from the outermost inwards, joined by `;`, with the number of samples; most first. */
  stacks(): (readonly [string, number])[] {
    return [...this.#stacks].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1));
  }

  /** The function, or the page of code where no symbol is known. */
  #place(rip: bigint): string {
    const found = this.#symbols.lookup(rip);
    return found ? found.name : `[page 0x${(rip & ~PAGE_MASK).toString(16)}]`;
  }
}
