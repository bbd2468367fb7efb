/**
 * VEX forms of the SSE instructions: the SSE semantics run over a view of the algebra in which operands are those of
 * the SSE form and vectors are one 128-bit lane; for 256 bits they run twice. Nothing is written before both lanes
 * are computed. Differences between the two families that are no matter of operands stand in `LANE_RULES`.
 */
import type { Algebra, OperandInfo, Semantics } from '../algebra.ts';
import { DelegatingAlgebra } from '../delegate.ts';
import { IOTA, zero128 } from './common.ts';
import { byteLanes } from './lanes.ts';

export const XMM_BYTES = 16;
export const YMM_BYTES = 32;
/** Low and high 128 bits. */
export type Pair<V> = readonly [low: V, high: V];

/** Number of 128-bit lanes that the instruction works on. */
export function lanesOf<V>(e: Algebra<V>): 1 | 2 {
  return e.operands.some((o) => o.size === YMM_BYTES) ? 2 : 1;
}

export function loadPair<V>(e: Algebra<V>, address: V): Pair<V> {
  const low = e.load('v128', address);
  return [low, e.load('v128', e.add(address, e.i64(XMM_BYTES)))];
}

/** Vector operand `n`, register or memory; of 128 bits the upper half is zero. */
export function readPair<V>(e: Algebra<V>, n: number): Pair<V> {
  const operand = e.operands[n];
  if (operand?.size !== YMM_BYTES) return [e.read(n), zero128(e)];
  if (operand.kind === 'memory') return loadPair(e, e.address(n));
  return [e.read(n), e.readHigh(n)];
}

/** Writes vector register operand 0 whole. */
export function writePair<V>(e: Algebra<V>, low: V, high: V = zero128(e)): void {
  e.write(0, low);
  e.writeHigh(0, high);
}

const PAGE_BYTES = 4096;

/** A store of 32 bytes that happens whole or not at all. */
export function storePair<V>(e: Algebra<V>, address: V, [low, high]: Pair<V>): void {
  const inPage = e.and(e.wrap(address), e.i32(PAGE_BYTES - 1));
  const half = (vector: V, lane: number): V => e.lane('i64x2.extract_lane', lane, vector);
  e.when(
    e.ltU(e.i32(PAGE_BYTES - YMM_BYTES), inPage),
    () => {
      e.helper('vex.store32', address, half(low, 0), half(low, 1), half(high, 0), half(high, 1));
    },
    () => {
      e.store('v128', address, low);
      e.store('v128', e.add(address, e.i64(XMM_BYTES)), high);
    },
  );
}

/** What the second lane does otherwise than the first. */
interface LaneRule {
  /** The immediate's bits for the second lane stand that much higher. */
  readonly immediateShift?: number;
  /** The second lane's source begins that many bytes into the (one) source vector. */
  readonly sourceStep?: number;
  /** Two lanes of 64 significant bits make one 128-bit result. */
  readonly narrows?: boolean;
}

const LANE_RULES: Readonly<Record<string, LaneRule>> = {
  blendps: { immediateShift: 4 },
  blendpd: { immediateShift: 2 },
  shufpd: { immediateShift: 2 },
  'vpermilpd.imm': { immediateShift: 2 },
  mpsadbw: { immediateShift: 3 },
  cvtdq2pd: { sourceStep: 8 },
  cvtps2pd: { sourceStep: 8 },
  vcvtph2ps: { sourceStep: 8 },
  cvtpd2ps: { narrows: true },
  cvtpd2dq: { narrows: true },
  cvttpd2dq: { narrows: true },
  ...Object.fromEntries(
    (['sx', 'zx'] as const).flatMap((kind) =>
      Object.entries({ bw: 8, wd: 8, dq: 8, bd: 4, wq: 4, bq: 2 }).map(([name, step]): [string, LaneRule] => [
        `pmov${kind}${name}`,
        { sourceStep: step },
      ]),
    ),
  ),
};

/** Operands as the SSE form has them, one lane at a time. */
class LaneView<V> extends DelegatingAlgebra<V> {
  /** The 128-bit lane at hand. */
  part: 0 | 1 = 0;
  /** What the lanes wrote to operand 0. */
  readonly results: V[] = [];
  /** A helper may have left exceptions of this instruction in `simdPending`. */
  mayHavePending = false;
  private readonly shift: number;
  private readonly isWide: boolean;
  private readonly rule: LaneRule;
  private readonly seen: readonly OperandInfo[];
  private readonly memory = new Map<number, Pair<V>>();

  /** `shift`: by how many places the operands but the first are further on than in the SSE form. */
  constructor(to: Algebra<V>, shape: { shift: number; rule: LaneRule }) {
    super(to);
    this.shift = shape.shift;
    this.rule = shape.rule;
    this.isWide = lanesOf(to) === 2;
    this.seen = to.operands.slice(this.shift).map((o) => (o.size === YMM_BYTES ? { ...o, size: XMM_BYTES } : o));
  }

  override get operands(): readonly OperandInfo[] {
    return this.seen;
  }
  override read(n: number): V {
    const at = n + this.shift;
    const operand = this.to.operands[at];
    if (operand?.kind === 'immediate') {
      const value = this.to.read(at);
      const shift = this.part === 1 ? (this.rule.immediateShift ?? 0) : 0;
      return shift === 0 ? value : this.to.shrU(value, this.to.i32(shift));
    }
    const value = this.vector(at, operand);
    const step = this.part === 1 && at === 1 ? this.rule.sourceStep : undefined;
    if (step === undefined) return value;
    return this.to.shuffle(value, value, IOTA.map((byte) => (byte + step) & (XMM_BYTES - 1))); // prettier-ignore
  }
  private vector(at: number, operand: OperandInfo | undefined): V {
    if (operand?.kind === 'memory' && this.isWide) {
      let pair = this.memory.get(at);
      if (!pair) {
        const low = operand.size === YMM_BYTES ? undefined : this.to.read(at);
        pair = low === undefined ? loadPair(this.to, this.to.address(at)) : [low, low];
        this.memory.set(at, pair);
      }
      return pair[this.part];
    }
    const isUpper = this.part === 1 && operand?.kind === 'xmm' && operand.size === YMM_BYTES;
    return isUpper ? this.to.readHigh(at) : this.to.read(at);
  }
  override write(n: number, value: V): void {
    if (n !== 0) throw new Error('only operand 0 is written');
    this.results[this.part] = value;
  }
  override address(n: number): V {
    return this.to.address(n + this.shift);
  }
  /** Nothing but the aligned moves asks for alignment. */
  override aligned(): void {
    // Accepted as it is.
  }
  /** The blends' implied XMM0 is an operand here. */
  override xmm(n: number): V {
    if (n !== 0 || this.to.operands.length < 4) throw new Error('only the blends have an implied register');
    return this.vector(3, this.to.operands[3]);
  }
  override setXmm(n: number, value: V): void {
    this.to.setXmm(n, value);
    this.to.setYmmHigh(n, zero128(this.to));
  }
  override helper(name: string, ...args: V[]): V {
    if (!this.isWide || !name.startsWith('sse.')) return this.to.helper(name, ...args);
    this.mayHavePending = true;
    return this.to.helper(`sse256.${name.slice('sse.'.length)}`, ...args);
  }
  /** The exceptions of both lanes at once: fault or go into MXCSR. */
  settle(): void {
    if (!this.mayHavePending) return;
    const e = this.to;
    e.when(e.ne(e.field('simdPending'), e.i32(0)), () => {
      e.helper('sse256.finish');
    });
  }
}

/** `shift`: 1 where the destination has a source of its own (`vex3`), else 0. */
export function vexForm(name: string, semantics: Semantics, shift: 0 | 1): Semantics {
  const rule = LANE_RULES[name] ?? {};
  return (e) => {
    const view = new LaneView(e, { shift, rule });
    semantics(view);
    if (lanesOf(e) === 2) {
      view.part = 1;
      semantics(view);
      view.settle();
    }
    const [low, high] = view.results;
    if (low === undefined) return;
    if (e.operands[0]?.kind !== 'xmm') e.write(0, low);
    else if (high === undefined) writePair(e, low);
    else if (rule.narrows) writePair(e, e.shuffle(low, high, byteLanes(8, [0, 2])));
    else writePair(e, low, high);
  };
}

/** Moves of whole vectors, aligned where `isAligned`. */
function move(isAligned: boolean): Semantics {
  return (e) => {
    const isWide = lanesOf(e) === 2;
    for (const [n, operand] of e.operands.entries())
      if (isAligned && operand.kind === 'memory') e.aligned(e.address(n), isWide ? YMM_BYTES : XMM_BYTES);
    const source = readPair(e, 1);
    if (e.operands[0]?.kind !== 'memory') writePair(e, ...source);
    else if (isWide) storePair(e, e.address(0), source);
    else e.store('v128', e.address(0), source[0]);
  };
}

/** MOVMSKPS and its like: the bits of the upper lane beyond the `count` of the lower one. */
function mask(op: string, count: number): Semantics {
  return (e) => {
    const [low, high] = readPair(e, 1);
    const bits = e.op(op, low);
    e.write(0, lanesOf(e) === 1 ? bits : e.or(bits, e.shl(e.op(op, high), e.i32(count))));
  };
}

const ZF = 0x40;
const ARITHMETIC_FLAGS = 0x8d5;

/** VPTEST, and VTESTPS and VTESTPD, which look at the bits of `signs` alone. */
function test(signs?: bigint): Semantics {
  return (e) => {
    const [b, bHigh] = readPair(e, 1);
    const [a, aHigh] = readPair(e, 0);
    let both = e.op('v128.or', e.op('v128.and', a, b), e.op('v128.and', aHigh, bHigh));
    let uncovered = e.op('v128.or', e.op('v128.andnot', b, a), e.op('v128.andnot', bHigh, aHigh));
    if (signs !== undefined) {
      const bits = e.op('i64x2.splat', e.i64(signs));
      both = e.op('v128.and', both, bits);
      uncovered = e.op('v128.and', uncovered, bits);
    }
    const isDisjoint = e.eqz(e.op('v128.any_true', both));
    const isCovered = e.eqz(e.op('v128.any_true', uncovered));
    e.flagsChange(ARITHMETIC_FLAGS, e.or(e.mul(isDisjoint, e.i32(ZF)), isCovered));
  };
}

/** VEX forms whose 256 bits are more than two lanes. */
export const vexWhole: Readonly<Record<string, Semantics>> = {
  'vex.mova': move(true),
  'vex.movu': move(false),
  'vex.movmskps': mask('i32x4.bitmask', 4),
  'vex.movmskpd': mask('i64x2.bitmask', 2),
  'vex.pmovmskb': mask('i8x16.bitmask', 16),
  'vex.ptest': test(),
  vtestps: test(0x8000000080000000n),
  vtestpd: test(1n << 63n),
};
