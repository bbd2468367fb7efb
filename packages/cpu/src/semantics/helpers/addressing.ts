/** Segmentation for helpers: from segment and offset to linear address, with the checks of the mode. Intel SDM vol. 3 chapter 5. */
import { ATTR, SEG } from '../../engine/state.ts';
import type { CpuState } from '../../engine/state.ts';
import { VECTOR } from '../helper.ts';
import type { HelperContext } from '../helper.ts';

export const EFER = { sce: 1n, lme: 1n << 8n, lma: 1n << 10n, nxe: 1n << 11n, svme: 1n << 12n } as const;
export const CR0 = { pe: 1n, mp: 2n, em: 4n, ts: 8n, et: 16n, ne: 32n, wp: 1n << 16n, am: 1n << 18n, nw: 1n << 29n, cd: 1n << 30n, pg: 1n << 31n } as const; // prettier-ignore
export const CR4 = { vme: 1n, pvi: 2n, tsd: 4n, de: 8n, pse: 16n, pae: 32n, mce: 64n, pge: 128n, pce: 256n, osfxsr: 512n, osxmmexcpt: 1024n, umip: 2048n, la57: 4096n, fsgsbase: 1n << 16n, pcide: 1n << 17n, osxsave: 1n << 18n, smep: 1n << 20n, smap: 1n << 21n } as const; // prettier-ignore

export const isLongMode = (state: CpuState): boolean => (state.efer & EFER.lma) !== 0n;
export const is64Bit = (state: CpuState): boolean => isLongMode(state) && (state.csAttributes & ATTR.long) !== 0;
export const isProtected = (state: CpuState): boolean => (state.cr0 & CR0.pe) !== 0n;
export const isVirtual8086 = (state: CpuState): boolean => (state.eflags & 0x20000) !== 0 && !isLongMode(state);
export const isCanonical = (address: bigint): boolean => {
  const top = BigInt.asIntN(64, address) >> 47n;
  return top === 0n || top === -1n;
};

export function stackMaskOf(state: CpuState): bigint {
  if (is64Bit(state)) return (1n << 64n) - 1n;
  return state.ssAttributes & ATTR.big ? 0xffff_ffffn : 0xffffn;
}

/** Raises #GP(0) or #SS(0) where the segment forbids the access. Not for 64-bit mode. */
export function checkSegment(
  context: HelperContext,
  segment: number,
  offset: bigint,
  size: number,
  isWrite: boolean,
): void {
  const { state } = context;
  const { attributes, limit } = state.segment(segment);
  const vector = segment === SEG.ss ? VECTOR.stackFault : VECTOR.generalProtection;
  const last = offset + BigInt(size) - 1n;
  if (!isProtected(state) || isVirtual8086(state)) {
    if (last > BigInt(limit)) context.fault(vector, 0);
    return;
  }
  const type = attributes & ATTR.type;
  const isCode = (type & 8) !== 0;
  if (!(attributes & ATTR.present)) context.fault(vector, 0);
  if (isWrite ? isCode || !(type & 2) : isCode && !(type & 2)) context.fault(vector, 0);
  if (!isCode && type & 4) {
    const top = attributes & ATTR.big ? 0xffff_ffffn : 0xffffn;
    if (offset <= BigInt(limit) || last > top) context.fault(vector, 0);
  } else if (last > BigInt(limit)) context.fault(vector, 0);
}

/** True when every access through the segment is fine: flat, present, writable (or code for CS). */
export function isFlat(state: CpuState, segment: number): boolean {
  const { attributes, limit } = state.segment(segment);
  if (!isProtected(state) || limit !== 0xffff_ffff || !(attributes & ATTR.present)) return false;
  return (attributes & (8 | 4 | 2)) === 2;
}

/** Linear address of segment:offset after the checks. `offset` is already cut to the address size. */
export function segmentAddress(
  context: HelperContext,
  segment: number,
  offset: bigint,
  size: number,
  isWrite: boolean,
): bigint {
  const { state } = context;
  if (is64Bit(state)) {
    const linear = BigInt.asUintN(64, segment >= SEG.fs ? offset + state.segmentBase(segment) : offset);
    if (!isCanonical(linear)) context.fault(segment === SEG.ss ? VECTOR.stackFault : VECTOR.generalProtection, 0);
    return linear;
  }
  if ((state.segmentCheck >> segment) & 1) checkSegment(context, segment, offset, size, isWrite);
  return (offset + state.segmentBase(segment)) & 0xffff_ffffn;
}

/** Stack accesses at a stack offset that is cut to the stack's width here. */
export function stackRead(context: HelperContext, pointer: bigint, size: number): bigint {
  const offset = pointer & stackMaskOf(context.state);
  return context.memory.read(segmentAddress(context, SEG.ss, offset, size, false), size);
}
export function stackWrite(context: HelperContext, pointer: bigint, size: number, value: bigint): void {
  const offset = pointer & stackMaskOf(context.state);
  context.memory.write(segmentAddress(context, SEG.ss, offset, size, true), size, BigInt.asUintN(8 * size, value));
}
export function setStackPointer(state: CpuState, pointer: bigint): void {
  const mask = stackMaskOf(state);
  state.rsp = (state.rsp & ~mask) | (pointer & mask);
}
