/** Segment registers: descriptors, loads with their checks, FS and GS bases. Intel SDM vol. 3 chapters 3 and 5. */
import { ATTR, SEG } from '../../engine/state.ts';
import type { Segment } from '../../engine/state.ts';
import { VECTOR } from '../helper.ts';
import type { Helper, HelperContext } from '../helper.ts';
import { CR4, checkSegment, is64Bit, isCanonical, isLongMode, isProtected, isVirtual8086 } from './addressing.ts';

export interface Descriptor extends Segment {
  /** The eight bytes as read. */
  readonly raw: bigint;
  /** Linear address of the descriptor. */
  readonly address: bigint;
}

export const dplOf = (d: Segment): number => (d.attributes >> ATTR.dplShift) & 3;
export const typeOf = (d: Segment): number => d.attributes & ATTR.type;
export const isCode = (d: Segment): boolean => (d.attributes & ATTR.s) !== 0 && (d.attributes & 8) !== 0;
export const isConforming = (d: Segment): boolean => (d.attributes & 4) !== 0;

export function parseDescriptor(raw: bigint, selector: number, address: bigint): Descriptor {
  const attributes = Number((raw >> 40n) & 0xf0ffn);
  const limit20 = Number((raw & 0xffffn) | ((raw >> 32n) & 0xf0000n));
  const limit = attributes & ATTR.granularity ? ((limit20 << 12) | 0xfff) >>> 0 : limit20;
  const base = ((raw >> 16n) & 0xff_ffffn) | ((raw >> 32n) & 0xff00_0000n);
  return { raw, address, selector, attributes, limit, base };
}

/** Reads the descriptor that a selector names, or undefined where it lies outside its table. */
export function findDescriptor(context: HelperContext, selector: number): Descriptor | undefined {
  const { state, memory } = context;
  const local = (selector & 4) !== 0;
  if (local && !(state.ldtrAttributes & ATTR.present)) return undefined;
  const base = local ? state.ldtrBase : state.gdtrBase;
  const limit = local ? state.ldtrLimit : state.gdtrLimit;
  const offset = selector & 0xfff8;
  if (offset + 7 > limit) return undefined;
  let address = base + BigInt(offset);
  if (!isLongMode(state)) address &= 0xffff_ffffn;
  return parseDescriptor(memory.read(BigInt.asUintN(64, address), 8, true), selector, address);
}

/** As findDescriptor, with `vector`(selector) where there is none. */
export function readDescriptor(
  context: HelperContext,
  selector: number,
  vector: number = VECTOR.generalProtection,
): Descriptor {
  return findDescriptor(context, selector) ?? context.fault(vector, selector & 0xfffc);
}

/** Sets the accessed bit in memory where it is not. */
export function markAccessed(context: HelperContext, d: Descriptor): Descriptor {
  if (d.attributes & 1) return d;
  const byte = Number((d.raw >> 40n) & 0xffn) | 1;
  context.memory.write(d.address + 5n, 1, BigInt(byte), true);
  return { ...d, attributes: d.attributes | 1 };
}

export function setSegmentFrom(context: HelperContext, n: number, d: Segment): void {
  context.state.setSegment(n, { selector: d.selector, attributes: d.attributes, limit: d.limit, base: d.base });
  context.changed('mode');
}

const nullSegment = (selector: number, attributes = 0): Segment => ({ selector, attributes, limit: 0, base: 0n });

/** MOV Sreg and its kin for ES, SS, DS, FS, GS. */
export function loadSegmentRegister(context: HelperContext, n: number, selector: number): void {
  const { state, fault } = context;
  if (n === SEG.cs) fault(VECTOR.invalidOpcode);
  if (!isProtected(state) || isVirtual8086(state)) {
    const old = state.segment(n);
    setSegmentFrom(context, n, { ...old, selector, base: BigInt(selector) << 4n });
    return;
  }
  const rpl = selector & 3;
  if ((selector & 0xfffc) === 0) {
    if (n === SEG.ss) {
      if (!is64Bit(state) || state.cpl === 3 || rpl !== state.cpl) fault(VECTOR.generalProtection, 0);
      setSegmentFrom(context, n, nullSegment(selector, state.cpl << ATTR.dplShift));
    } else setSegmentFrom(context, n, nullSegment(selector));
    return;
  }
  const d = readDescriptor(context, selector);
  const error = selector & 0xfffc;
  const writableData = (d.attributes & (ATTR.s | 8 | 2)) === (ATTR.s | 2);
  if (n === SEG.ss) {
    if (rpl !== state.cpl || !writableData || dplOf(d) !== state.cpl) fault(VECTOR.generalProtection, error);
    if (!(d.attributes & ATTR.present)) fault(VECTOR.stackFault, error);
  } else {
    if (!(d.attributes & ATTR.s) || (isCode(d) && !(d.attributes & 2))) fault(VECTOR.generalProtection, error);
    if (!(isCode(d) && isConforming(d)) && Math.max(rpl, state.cpl) > dplOf(d)) fault(VECTOR.generalProtection, error);
    if (!(d.attributes & ATTR.present)) fault(VECTOR.segmentNotPresent, error);
  }
  setSegmentFrom(context, n, markAccessed(context, d));
}

/** CS at the present privilege level, as a far transfer that does not change it loads it. */
export function loadCodeSegment(context: HelperContext, selector: number): void {
  const { state, fault } = context;
  const error = selector & 0xfffc;
  if (error === 0) fault(VECTOR.generalProtection, 0);
  const d = readDescriptor(context, selector);
  const allowed = isConforming(d) ? dplOf(d) <= state.cpl : dplOf(d) === state.cpl && (selector & 3) === state.cpl;
  if (!isCode(d) || !allowed) fault(VECTOR.generalProtection, error);
  if (d.attributes & ATTR.long && d.attributes & ATTR.big) fault(VECTOR.generalProtection, error);
  if (!(d.attributes & ATTR.present)) fault(VECTOR.segmentNotPresent, error);
  setSegmentFrom(context, SEG.cs, markAccessed(context, d));
}

export const segmentHelpers: Readonly<Record<string, Helper>> = {
  checksegment(context, [segment = 0n, offset = 0n, info = 1n]) {
    if (is64Bit(context.state)) return;
    checkSegment(context, Number(segment), offset, Number(info & 0xffn), (info & 0x100n) !== 0n);
  },
  selector({ state }, [n = 0n]) {
    return BigInt(state.selector(Number(n)));
  },
  loadsegment(context, [n = 0n, selector = 0n]) {
    loadSegmentRegister(context, Number(n), Number(selector & 0xffffn));
    if (Number(n) === SEG.ss) {
      context.state.interruptShadow = 2;
      context.attend();
    }
  },
  rdbase({ state, fault }, [n = 4n]) {
    if (!(state.cr4 & CR4.fsgsbase)) fault(VECTOR.invalidOpcode);
    return state.segmentBase(Number(n));
  },
  wrbase({ state, fault }, [n = 4n, value = 0n]) {
    if (!(state.cr4 & CR4.fsgsbase)) fault(VECTOR.invalidOpcode);
    if (!isCanonical(value)) fault(VECTOR.generalProtection, 0);
    if (n === 4n) state.fsBase = value;
    else state.gsBase = value;
  },
  swapgs({ state, fault }) {
    if (state.cpl !== 0) fault(VECTOR.generalProtection, 0);
    const base = state.gsBase;
    state.gsBase = state.kernelGsBase;
    state.kernelGsBase = base;
  },
};
