/**
 * String instructions. Plain runs go page by page through direct views; anything else element by element. Registers
 * are up to date before each access, so a fault in the middle of a REP finds what the manual says. Intel SDM vol. 2 REP.
 */
import { CC } from '../../engine/flags.ts';
import { SEG } from '../../engine/state.ts';
import type { CpuState } from '../../engine/state.ts';
import type { Helper, HelperContext } from '../helper.ts';
import { segmentAddress } from './addressing.ts';

const RCX = 1;
const RSI = 6;
const RDI = 7;
/** Steps after which a repeated instruction lets the run loop look; it goes on at the same RIP. */
const MAX_STEPS = 1 << 16;

const widthMask = (bytes: number): bigint => (1n << BigInt(8 * bytes)) - 1n;
const LOG2: Record<number, number> = { 1: 0, 2: 1, 4: 2, 8: 3 };

/** Registers of a string instruction under its address size. */
class Pointers {
  readonly state: CpuState;
  readonly width: number;
  readonly mask: bigint;
  constructor(state: CpuState, width: number) {
    this.state = state;
    this.width = width;
    this.mask = widthMask(width);
  }
  get(n: number): bigint {
    return this.state.gpr(n) & this.mask;
  }
  set(n: number, value: bigint): void {
    this.state.setGpr(n, this.width === 2 ? (this.state.gpr(n) & ~0xffffn) | (value & 0xffffn) : value & this.mask);
  }
  advance(n: number, by: bigint): void {
    this.set(n, this.get(n) + by);
  }
}

interface Step {
  context: HelperContext;
  pointers: Pointers;
  size: number;
  segment: number;
  /** Distance to the next element. */
  stride: bigint;
}

const source = (s: Step, n = 1): bigint => segmentAddress(s.context, s.segment, s.pointers.get(RSI), s.size * n, false);
const destination = (s: Step, isWrite: boolean, n = 1): bigint =>
  segmentAddress(s.context, SEG.es, s.pointers.get(RDI), s.size * n, isWrite);

/** Elements from `address` to the end of its page. */
const roomInPage = (address: bigint, size: number): number => (4096 - Number(address & 0xfffn)) >> (LOG2[size] ?? 0);

/**
 * Runs `one` for each element; `bulk` may do several at once (forward only, at most `n`) and says how many it did.
 * `stop` ends a REPE or REPNE.
 */
function repeat(
  s: Step,
  mode: number,
  work: { one: () => void; bulk?: (n: number) => number; stop?: () => boolean },
): void {
  const { pointers, context } = s;
  if (mode === 0) {
    work.one();
    return;
  }
  for (let steps = 0; steps < MAX_STEPS;) {
    const left = pointers.get(RCX);
    if (left === 0n) return;
    let done = 0;
    if (work.bulk && s.stride > 0n && left > 1n) done = work.bulk(left > BigInt(MAX_STEPS) ? MAX_STEPS : Number(left));
    if (done === 0) {
      work.one();
      done = 1;
    }
    pointers.set(RCX, left - BigInt(done));
    steps += done;
    if (work.stop?.()) return;
  }
  if (pointers.get(RCX) !== 0n) context.jump(context.state.rip);
}

function begin(context: HelperContext, args: readonly bigint[]): { s: Step; mode: number } {
  const [size = 1n, addressSize = 8n, mode = 0n, segment = 3n] = args;
  const { state } = context;
  const backwards = (state.eflags & 0x400) !== 0;
  const s: Step = {
    context,
    pointers: new Pointers(state, Number(addressSize)),
    size: Number(size),
    segment: Number(segment),
    stride: backwards ? -size : size,
  };
  return { s, mode: Number(mode) };
}

function compareFlags(state: CpuState, size: number, a: bigint, b: bigint): void {
  const bits = 8 * size;
  state.ccA = BigInt.asUintN(64, BigInt.asIntN(bits, a));
  state.ccB = BigInt.asUintN(64, BigInt.asIntN(bits, b));
  state.ccResult = BigInt.asUintN(64, BigInt.asIntN(bits, a - b));
  state.ccKind = CC.sub | ((LOG2[size] ?? 0) << 4);
}

/** Copies forward as the instruction does: an overlap with the destination ahead repeats the pattern. */
function copyForward(from: Uint8Array, to: Uint8Array, size: number): void {
  const distance = to.byteOffset - from.byteOffset;
  if (distance <= 0 || distance >= from.length) {
    to.set(from);
    return;
  }
  for (let i = 0; i < to.length; i += size) to.set(from.slice(i, i + size), i);
}

function writeAccumulator(state: CpuState, size: number, value: bigint): void {
  state.rax = size >= 4 ? value : (state.rax & ~widthMask(size)) | value;
}

/** Fills with `size` bytes of `value` over and over. */
function fill(to: Uint8Array, size: number, value: bigint): void {
  const pattern = Array.from({ length: size }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
  if (pattern.every((byte) => byte === pattern[0])) {
    to.fill(pattern[0] ?? 0);
    return;
  }
  to.set(pattern);
  for (let filled = size; filled < to.length; filled *= 2)
    to.copyWithin(filled, 0, Math.min(filled, to.length - filled));
}

export const stringHelpers: Readonly<Record<string, Helper>> = {
  movs(context, args) {
    const { s, mode } = begin(context, args);
    const { memory } = context;
    repeat(s, mode, {
      one: () => {
        memory.write(destination(s, true), s.size, memory.read(source(s), s.size));
        s.pointers.advance(RSI, s.stride);
        s.pointers.advance(RDI, s.stride);
      },
      bulk: (n) => {
        const count = Math.min(n, roomInPage(source(s), s.size), roomInPage(destination(s, true), s.size));
        if (count < 2) return 0;
        const from = memory.span(source(s, count), count * s.size, false);
        const to = memory.span(destination(s, true, count), count * s.size, true);
        if (!from || !to) return 0;
        copyForward(from, to, s.size);
        s.pointers.advance(RSI, s.stride * BigInt(count));
        s.pointers.advance(RDI, s.stride * BigInt(count));
        return count;
      },
    });
  },
  stos(context, args) {
    const { s, mode } = begin(context, args);
    const { memory, state } = context;
    const value = state.rax & widthMask(s.size);
    repeat(s, mode, {
      one: () => {
        memory.write(destination(s, true), s.size, value);
        s.pointers.advance(RDI, s.stride);
      },
      bulk: (n) => {
        const count = Math.min(n, roomInPage(destination(s, true), s.size));
        if (count < 2) return 0;
        const to = memory.span(destination(s, true, count), count * s.size, true);
        if (!to) return 0;
        fill(to, s.size, value);
        s.pointers.advance(RDI, s.stride * BigInt(count));
        return count;
      },
    });
  },
  lods(context, args) {
    const { s, mode } = begin(context, args);
    repeat(s, mode, {
      one: () => {
        writeAccumulator(context.state, s.size, context.memory.read(source(s), s.size));
        s.pointers.advance(RSI, s.stride);
      },
    });
  },
  scas(context, args) {
    const { s, mode } = begin(context, args);
    const { state, memory } = context;
    repeat(s, mode, {
      one: () => {
        const value = memory.read(destination(s, false), s.size);
        compareFlags(state, s.size, state.rax & widthMask(s.size), value);
        s.pointers.advance(RDI, s.stride);
      },
      stop: () => (state.ccResult === 0n) === (mode === 2),
    });
  },
  cmps(context, args) {
    const { s, mode } = begin(context, args);
    const { state, memory } = context;
    repeat(s, mode, {
      one: () => {
        // In the order of `stringStep` of semantics/control.ts.
        const early = mode === 0 ? memory.read(destination(s, false), s.size) : undefined;
        const a = memory.read(source(s), s.size);
        const b = early ?? memory.read(destination(s, false), s.size);
        compareFlags(state, s.size, a, b);
        s.pointers.advance(RSI, s.stride);
        s.pointers.advance(RDI, s.stride);
      },
      stop: () => (state.ccResult === 0n) === (mode === 2),
    });
  },
};
