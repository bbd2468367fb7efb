/**
 * XSAVE, XSAVEOPT, XSAVEC, XRSTOR, and XCR0: state components x87, SSE and AVX. Intel SDM vol. 1 chapter 13.
 *
 * There is no record of what was modified since an XRSTOR: XSAVEOPT leaves out only components in their initial
 * configuration, which the manual allows.
 */
import type { CpuState } from '../../engine/state.ts';
import { VECTOR } from '../helper.ts';
import type { Helper, HelperContext } from '../helper.ts';
import { CR0, CR4 } from './addressing.ts';
import { FX_BYTES, loadX87, loadXmm, mxcsrOf, nrVectorRegisters, resetX87, storeMxcsr, storeX87, storeXmm } from './fpu-state.ts'; // prettier-ignore

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

const isZero = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0);

/** Components that are not in their initial configuration: XINUSE. */
function inUse(state: CpuState): number {
  const hasX87 =
    state.fcw !== 0x37f || state.fsw !== 0 || state.ftw !== 0 || state.fop !== 0 || state.fip !== 0n ||
    state.fdp !== 0n || state.fcs !== 0 || state.fds !== 0 || !Array.from({ length: 8 }, (_, i) => state.fpr(i)).every(isZero); // prettier-ignore
  const vectors = Array.from({ length: nrVectorRegisters(state) }, (_, i) => i);
  const hasSse = vectors.some((i) => !isZero(state.xmm(i)));
  const hasAvx = vectors.some((i) => !isZero(state.ymmHigh(i)));
  return (hasX87 ? XSTATE.x87 : 0) | (hasSse ? XSTATE.sse : 0) | (hasAvx ? XSTATE.avx : 0);
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
  const { state, memory } = context;
  const kind = SAVE_KINDS[Number(kindNumber)] ?? 'xsave';
  const wanted = requested(context, address);
  const used = inUse(state);
  // XSAVEC counts SSE state as used when MXCSR alone is not as after reset.
  const counted = kind === 'xsavec' && state.mxcsr !== MXCSR_DEFAULT ? used | XSTATE.sse : used;
  const written = kind === 'xsave' ? wanted : wanted & counted;
  const image = new Uint8Array(IMAGE_BYTES);
  const view = new DataView(image.buffer);
  const isCompact = kind === 'xsavec';
  const touchesAvx = (written & XSTATE.avx) !== 0;
  const bytes = touchesAvx ? IMAGE_BYTES : AVX;
  for (const at of [address, address + BigInt(bytes - 1)]) memory.span(BigInt.asUintN(64, at), 1, true);
  // What stays as it is in memory is read first.
  memory.readBytes(address, image.subarray(0, AVX));
  const old = view.getUint32(HEADER, true);
  const oldHigh = view.getUint32(HEADER + 4, true);
  if (touchesAvx) memory.readBytes(address + BigInt(AVX), image.subarray(AVX));
  if (written & XSTATE.x87) storeX87(state, image, isWide !== 0n);
  if (written & XSTATE.sse) storeXmm(state, image);
  const savesMxcsr = isCompact ? written & XSTATE.sse : wanted & (XSTATE.sse | XSTATE.avx);
  if (savesMxcsr) storeMxcsr(state, image);
  if (touchesAvx) for (let i = 0; i < nrVectorRegisters(state); i++) image.set(state.ymmHigh(i), AVX + 16 * i);
  view.setUint32(HEADER, isCompact ? wanted & counted : (old & ~wanted) | (wanted & used), true);
  view.setUint32(HEADER + 4, isCompact ? 0 : oldHigh, true);
  if (isCompact) view.setBigUint64(XCOMP_BV, COMPACTED | BigInt(wanted), true);
  memory.writeBytes(address, image.subarray(0, bytes));
};

/** Components of an image, checked. */
function imageComponents({ state, fault }: HelperContext, image: Uint8Array): { present: number; isCompact: boolean } {
  const view = new DataView(image.buffer);
  const bits = view.getBigUint64(HEADER, true);
  const compaction = view.getBigUint64(XCOMP_BV, true);
  const isCompact = (compaction & COMPACTED) !== 0n;
  const allowed = isCompact ? compaction & ~COMPACTED : state.xcr0;
  const reserved = image.subarray(isCompact ? XCOMP_BV + 8 : XCOMP_BV, isCompact ? AVX : XCOMP_BV + 16);
  if (bits & ~allowed || allowed & ~state.xcr0 || !isZero(reserved)) fault(VECTOR.generalProtection, 0);
  return { present: Number(bits), isCompact };
}

/** Arguments: address, 1 for REX.W. */
const xrstor: Helper = (context, [address = 0n, isWide = 0n]) => {
  const { state, memory } = context;
  const wanted = requested(context, address);
  const image = new Uint8Array(IMAGE_BYTES);
  memory.readBytes(address, image.subarray(0, AVX));
  const { present, isCompact } = imageComponents(context, image);
  const loaded = wanted & present;
  if (loaded & XSTATE.avx) memory.readBytes(address + BigInt(AVX), image.subarray(AVX));
  const loadsMxcsr = isCompact ? loaded & XSTATE.sse : wanted & (XSTATE.sse | XSTATE.avx);
  if (loadsMxcsr) state.mxcsr = mxcsrOf(image) ?? context.fault(VECTOR.generalProtection, 0);
  else if (wanted & XSTATE.sse) state.mxcsr = MXCSR_DEFAULT;
  if (loaded & XSTATE.x87) loadX87(state, image, isWide !== 0n);
  else if (wanted & XSTATE.x87) {
    resetX87(state);
    for (let i = 0; i < 8; i++) state.fpr(i).fill(0);
  }
  const count = nrVectorRegisters(state);
  if (loaded & XSTATE.sse) loadXmm(state, image);
  else if (wanted & XSTATE.sse) for (let i = 0; i < count; i++) state.xmm(i).fill(0);
  if (!(wanted & XSTATE.avx)) return;
  for (let i = 0; i < count; i++)
    if (loaded & XSTATE.avx) state.ymmHigh(i).set(image.subarray(AVX + 16 * i, AVX + 16 * i + 16));
    else state.ymmHigh(i).fill(0);
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
