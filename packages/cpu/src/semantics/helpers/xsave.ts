/**
 * XSAVE, XSAVEOPT, XSAVEC, XRSTOR, and XCR0: state components x87, SSE and AVX. Intel SDM vol. 1 chapter 13.
 *
 * There is no record of what was modified since an XRSTOR: XSAVEOPT leaves out only components in their initial
 * configuration, which the manual allows.
 */
import { OFFSET } from '../../engine/state.ts';
import type { CpuState } from '../../engine/state.ts';
import { VECTOR } from '../helper.ts';
import type { Helper, HelperContext } from '../helper.ts';
import { CR0, CR4 } from './addressing.ts';
import { FX_BYTES, HALF, clearHalves, loadHalves, loadX87, loadXmm, mxcsrOf, nrVectorRegisters, resetX87, storeHalves, storeMxcsr, storeX87, storeXmm } from './fpu-state.ts'; // prettier-ignore

export const XSTATE = { x87: 1, sse: 2, avx: 4 } as const;
const ALL_COMPONENTS = XSTATE.x87 | XSTATE.sse | XSTATE.avx;
/** The XSAVE header behind the legacy region, and the AVX component behind that, in either format. */
const HEADER = FX_BYTES;
const HEADER_BYTES = 64;
const XCOMP_BV = HEADER + 8;
const AVX = HEADER + HEADER_BYTES;
const AVX_BYTES = 256;
const IMAGE_BYTES = AVX + AVX_BYTES;
const COMPACTED = 1n << 63n;
const ALIGNMENT_MASK = 63n;
const MXCSR_DEFAULT = 0x1f80;
/** CPUID leaf that tells which bits XCR0 may have. */
const CPUID_XSTATE = 0xd;

/** Bytes of the XSAVE area for these components: CPUID.(0D,0). */
export function xsaveBytes(components: number): number {
  return (components & XSTATE.avx) !== 0 ? IMAGE_BYTES : AVX;
}

export type SaveKind = 'xsave' | 'xsaveopt' | 'xsavec';
export const SAVE_KINDS: readonly SaveKind[] = ['xsave', 'xsaveopt', 'xsavec'];

function areRegistersZero({ dv, base }: CpuState): boolean {
  let any = 0;
  for (let at = base + OFFSET.fpr; at < base + OFFSET.fpr + 128; at += 4) any |= dv.getInt32(at, true);
  return any === 0;
}

/** Components that are not in their initial configuration: XINUSE. Asked at every save: plain loops. */
function inUse(state: CpuState): number {
  const isInitialX87 =
    state.fcw === 0x37f && state.fsw === 0 && state.ftw === 0 && state.fop === 0 && state.fip === 0n &&
    state.fdp === 0n && state.fcs === 0 && state.fds === 0 && areRegistersZero(state); // prettier-ignore
  let low = 0;
  let high = 0;
  const end = state.base + OFFSET.xmm + 32 * nrVectorRegisters(state);
  for (let at = state.base + OFFSET.xmm; at < end; at += 32)
    for (let n = 0; n < 16; n += 4) {
      low |= state.dv.getInt32(at + n, true);
      high |= state.dv.getInt32(at + 16 + n, true);
    }
  return (isInitialX87 ? 0 : XSTATE.x87) | (low !== 0 ? XSTATE.sse : 0) | (high !== 0 ? XSTATE.avx : 0);
}

const PAGE_BYTES = 4096n;

/** An image in guest memory to work on, in place where that is possible; `commit` ends the work. */
interface Area {
  readonly image: Uint8Array;
  commit(): void;
}
const nothing = (): void => undefined;

function areaAt({ memory }: HelperContext, address: bigint, bytes: number, isWrite: boolean): Area {
  const end = address + BigInt(bytes - 1);
  if (address / PAGE_BYTES === end / PAGE_BYTES) {
    const image = memory.span(address, bytes, isWrite);
    if (image) return { image, commit: nothing };
  } else if (isWrite) for (const at of [address, end]) memory.span(BigInt.asUintN(64, at), 1, true);
  const image = new Uint8Array(bytes);
  memory.readBytes(address, image);
  return { image, commit: isWrite ? () => { memory.writeBytes(address, image); } : nothing }; // prettier-ignore
}

/** The components that the instruction is about: EDX:EAX as far as XCR0 allows. Faults come first. */
function requested({ state, fault }: HelperContext, address: bigint): number {
  if (!(state.cr4 & CR4.osxsave)) fault(VECTOR.invalidOpcode);
  if (state.cr0 & CR0.ts) fault(VECTOR.deviceNotAvailable);
  if (address & ALIGNMENT_MASK) fault(VECTOR.generalProtection, 0);
  return Number(state.rax & state.xcr0) & ALL_COMPONENTS;
}

/** Arguments: address, 1 for REX.W, number of the kind. */
const xsave: Helper = (context, [address = 0n, isWide = 0n, kindNumber = 0n]) => {
  const { state } = context;
  const kind = SAVE_KINDS[Number(kindNumber)] ?? 'xsave';
  const wanted = requested(context, address);
  const used = inUse(state);
  // XSAVEC counts SSE state as used when MXCSR alone is not as after reset.
  const counted = kind === 'xsavec' && state.mxcsr !== MXCSR_DEFAULT ? used | XSTATE.sse : used;
  const written = kind === 'xsave' ? wanted : wanted & counted;
  const touchesAvx = (written & XSTATE.avx) !== 0;
  const isCompact = kind === 'xsavec';
  // What is not written stays as it is in memory.
  const { image, commit } = areaAt(context, address, touchesAvx ? IMAGE_BYTES : AVX, true);
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  if (written & XSTATE.x87) storeX87(state, image, isWide !== 0n);
  if (written & XSTATE.sse) storeXmm(state, image);
  const savesMxcsr = isCompact ? written & XSTATE.sse : wanted & (XSTATE.sse | XSTATE.avx);
  if (savesMxcsr) storeMxcsr(state, image);
  if (touchesAvx) storeHalves(state, HALF.upper, view, AVX);
  if (isCompact) {
    view.setBigUint64(HEADER, BigInt(wanted & counted), true);
    view.setBigUint64(XCOMP_BV, COMPACTED | BigInt(wanted), true);
  } else view.setUint32(HEADER, (view.getUint32(HEADER, true) & ~wanted) | (wanted & used), true);
  commit();
};

/** Components of an image, checked. */
function imageComponents({ state, fault }: HelperContext, image: Uint8Array): { present: number; isCompact: boolean } {
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  const bits = view.getBigUint64(HEADER, true);
  const compaction = view.getBigUint64(XCOMP_BV, true);
  const isCompact = (compaction & COMPACTED) !== 0n;
  const allowed = isCompact ? compaction & ~COMPACTED : state.xcr0;
  let reserved = 0;
  const end = isCompact ? AVX : XCOMP_BV + 16;
  for (let at = isCompact ? XCOMP_BV + 8 : XCOMP_BV; at < end; at += 4) reserved |= view.getInt32(at, true);
  if (bits & ~allowed || allowed & ~state.xcr0 || reserved !== 0) fault(VECTOR.generalProtection, 0);
  return { present: Number(bits), isCompact };
}

/** Arguments: address, 1 for REX.W. */
const xrstor: Helper = (context, [address = 0n, isWide = 0n]) => {
  const { state } = context;
  const wanted = requested(context, address);
  const { image } = areaAt(context, address, AVX, false);
  const { present, isCompact } = imageComponents(context, image);
  const loaded = wanted & present;
  const upper = loaded & XSTATE.avx ? areaAt(context, address + BigInt(AVX), AVX_BYTES, false).image : undefined;
  const loadsMxcsr = isCompact ? loaded & XSTATE.sse : wanted & (XSTATE.sse | XSTATE.avx);
  if (loadsMxcsr) state.mxcsr = mxcsrOf(image) ?? context.fault(VECTOR.generalProtection, 0);
  else if (wanted & XSTATE.sse) state.mxcsr = MXCSR_DEFAULT;
  if (loaded & XSTATE.x87) loadX87(state, image, isWide !== 0n);
  else if (wanted & XSTATE.x87) {
    resetX87(state);
    state.u8.fill(0, state.base + OFFSET.fpr, state.base + OFFSET.fpr + 128);
  }
  if (loaded & XSTATE.sse) loadXmm(state, image);
  else if (wanted & XSTATE.sse) clearHalves(state, HALF.xmm);
  if (upper) loadHalves(state, HALF.upper, new DataView(upper.buffer, upper.byteOffset, upper.byteLength), 0);
  else if (wanted & XSTATE.avx) clearHalves(state, HALF.upper);
};

/** Whether XCR0 may have this value on a processor whose CPUID.(0D,0).EAX is `supported`. */
export function isValidXcr0(value: bigint, supported: number): boolean {
  const allowed = BigInt(supported & ALL_COMPONENTS) | BigInt(XSTATE.x87 | XSTATE.sse);
  if (value & ~allowed || !(value & BigInt(XSTATE.x87))) return false;
  return !(value & BigInt(XSTATE.avx)) || (value & BigInt(XSTATE.sse)) !== 0n;
}

const pairOf = (state: CpuState): bigint => ((state.rdx & 0xffff_ffffn) << 32n) | (state.rax & 0xffff_ffffn);

const xgetbv: Helper = ({ state, fault }) => {
  if (!(state.cr4 & CR4.osxsave)) fault(VECTOR.invalidOpcode);
  const register = state.rcx & 0xffff_ffffn;
  if (register > 1n) fault(VECTOR.generalProtection, 0);
  state.rax = register === 0n ? state.xcr0 : state.xcr0 & BigInt(inUse(state));
  state.rdx = 0n;
};

const xsetbv: Helper = (context) => {
  const { state, fault } = context;
  if (!(state.cr4 & CR4.osxsave)) fault(VECTOR.invalidOpcode);
  if (state.cpl !== 0) fault(VECTOR.generalProtection, 0);
  const value = pairOf(state);
  const isXcr0 = (state.rcx & 0xffff_ffffn) === 0n;
  if (!isXcr0 || !isValidXcr0(value, context.cpuid(CPUID_XSTATE, 0).eax)) fault(VECTOR.generalProtection, 0);
  state.xcr0 = value;
  context.changed('mode');
};

export const xsaveHelpers: Readonly<Record<string, Helper>> = { xsave, xrstor, xgetbv, xsetbv };
