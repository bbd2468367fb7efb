/**
 * The x87 register stack as helpers see it, and the images of FXSAVE and FXRSTOR. Registers lie in the state in
 * physical order; images hold them in stack order from ST(0). Intel SDM vol. 1, 10.5.1; vol. 2 FXSAVE.
 */
import { OFFSET } from '../../engine/state.ts';
import type { CpuState } from '../../engine/state.ts';
import type { Helper } from '../helper.ts';
import { VECTOR } from '../helper.ts';
import { is64Bit } from './addressing.ts';

export const MXCSR_MASK = 0xffff;
export const FX_BYTES = 512;
const FX_MXCSR = 24;
const FX_MXCSR_MASK = 28;
const FX_ST = 32;
const FX_XMM = 160;
/** Bytes of the image that FXSAVE writes; the rest is the system's own. */
const FX_USED_32 = 288;
const FX_USED_64 = 416;
const viewOf = (image: Uint8Array): DataView => new DataView(image.buffer, image.byteOffset, image.byteLength);

export const STATUS_ERROR_SUMMARY = 0x80;
const STATUS_BUSY = 0x8000;

/** Physical number of ST(i). */
export function physical(state: CpuState, i: number): number {
  return (((state.fsw >> 11) & 7) + i) & 7;
}

/** Recomputes the summary bits of the status word from its exceptions and the masks. */
export function updateSummary(state: CpuState): void {
  const pending = (state.fsw & ~state.fcw & 0x3f) !== 0;
  state.fsw = pending
    ? state.fsw | STATUS_ERROR_SUMMARY | STATUS_BUSY
    : state.fsw & ~(STATUS_ERROR_SUMMARY | STATUS_BUSY);
}

/** What FNINIT leaves; the registers keep their values. */
export function resetX87(state: CpuState): void {
  state.fcw = 0x37f;
  state.fsw = 0;
  state.ftw = 0;
  state.fop = 0;
  state.fip = 0n;
  state.fdp = 0n;
  state.fcs = 0;
  state.fds = 0;
}

/** Registers that the mode has. */
export function nrVectorRegisters(state: CpuState): number {
  return is64Bit(state) ? 16 : 8;
}

/** x87 state into an image; `isWide`: the 64-bit form of the pointers (REX.W). */
export function storeX87(state: CpuState, image: Uint8Array, isWide: boolean): void {
  const view = viewOf(image);
  view.setUint16(0, state.fcw, true);
  view.setUint16(2, state.fsw, true);
  view.setUint8(4, state.ftw);
  view.setUint16(6, state.fop, true);
  if (isWide) {
    view.setBigUint64(8, state.fip, true);
    view.setBigUint64(16, state.fdp, true);
  } else {
    view.setUint32(8, Number(state.fip & 0xffffffffn), true);
    view.setUint16(12, state.fcs, true);
    view.setUint32(16, Number(state.fdp & 0xffffffffn), true);
    view.setUint16(20, state.fds, true);
  }
  const { dv, base } = state;
  for (let i = 0; i < 8; i++) {
    const from = base + OFFSET.fpr + 16 * physical(state, i);
    const to = FX_ST + 16 * i;
    copyWords(dv, from, view, to, 2);
    view.setUint16(to + 8, dv.getUint16(from + 8, true), true);
  }
}

export function loadX87(state: CpuState, image: Uint8Array, isWide: boolean): void {
  const view = viewOf(image);
  state.fcw = (view.getUint16(0, true) & 0x1f3f) | 0x40;
  state.fsw = view.getUint16(2, true);
  state.ftw = view.getUint8(4);
  state.fop = view.getUint16(6, true) & 0x7ff;
  if (isWide) {
    state.fip = view.getBigUint64(8, true);
    state.fdp = view.getBigUint64(16, true);
    state.fcs = 0;
    state.fds = 0;
  } else {
    state.fip = BigInt(view.getUint32(8, true));
    state.fcs = view.getUint16(12, true);
    state.fdp = BigInt(view.getUint32(16, true));
    state.fds = view.getUint16(20, true);
  }
  updateSummary(state);
  const { dv, base } = state;
  for (let i = 0; i < 8; i++) {
    const from = FX_ST + 16 * i;
    const to = base + OFFSET.fpr + 16 * physical(state, i);
    copyWords(view, from, dv, to, 2);
    dv.setUint16(to + 8, view.getUint16(from + 8, true), true);
  }
}

/** 32-bit words from one place to another: some hundred bytes at each task switch of a guest, for which views of parts cost more. */
function copyWords(from: DataView, at: number, into: DataView, to: number, count: number): void {
  for (let n = 0; n < 4 * count; n += 4) into.setInt32(to + n, from.getInt32(at + n, true), true);
}

/** A half of each vector register: XMM, or what YMM has above it. */
export const HALF = { xmm: 0, upper: 16 } as const;
type Half = (typeof HALF)[keyof typeof HALF];
const BYTES_A_REGISTER = 32;

/** The halves of all vector registers that the mode has, to `at` of an image. */
export function storeHalves(state: CpuState, half: Half, image: DataView, at: number): void {
  const { dv, base } = state;
  const from = base + OFFSET.xmm + half;
  for (let i = 0; i < nrVectorRegisters(state); i++) copyWords(dv, from + BYTES_A_REGISTER * i, image, at + 16 * i, 4);
}
export function loadHalves(state: CpuState, half: Half, image: DataView, at: number): void {
  const { dv, base } = state;
  const to = base + OFFSET.xmm + half;
  for (let i = 0; i < nrVectorRegisters(state); i++) copyWords(image, at + 16 * i, dv, to + BYTES_A_REGISTER * i, 4);
}
export function clearHalves(state: CpuState, half: Half): void {
  const { dv, base } = state;
  const to = base + OFFSET.xmm + half;
  for (let i = 0; i < nrVectorRegisters(state); i++)
    for (let n = 0; n < 16; n += 4) dv.setInt32(to + BYTES_A_REGISTER * i + n, 0, true);
}
export function storeXmm(state: CpuState, image: Uint8Array): void {
  storeHalves(state, HALF.xmm, viewOf(image), FX_XMM);
}
export function loadXmm(state: CpuState, image: Uint8Array): void {
  loadHalves(state, HALF.xmm, viewOf(image), FX_XMM);
}

/** MXCSR and its mask. */
export function storeMxcsr(state: CpuState, image: Uint8Array): void {
  const view = viewOf(image);
  view.setUint32(FX_MXCSR, state.mxcsr, true);
  view.setUint32(FX_MXCSR_MASK, MXCSR_MASK, true);
}
/** MXCSR of an image; undefined when it has reserved bits set. */
export function mxcsrOf(image: Uint8Array): number | undefined {
  const mxcsr = viewOf(image).getUint32(FX_MXCSR, true);
  return (mxcsr & ~MXCSR_MASK) === 0 ? mxcsr : undefined;
}

/** Arguments: address, 1 for the 64-bit image (REX.W). Outside 64-bit mode there are eight XMM registers. */
const fxsave: Helper = ({ state, memory }, [address = 0n, isWide = 0n]) => {
  const image = new Uint8Array(is64Bit(state) ? FX_USED_64 : FX_USED_32);
  storeX87(state, image, isWide !== 0n);
  storeMxcsr(state, image);
  storeXmm(state, image);
  memory.writeBytes(address, image);
};

const fxrstor: Helper = (helper, [address = 0n, isWide = 0n]) => {
  const { state, memory } = helper;
  const image = new Uint8Array(FX_BYTES);
  memory.readBytes(address, image);
  const mxcsr = mxcsrOf(image) ?? helper.fault(VECTOR.generalProtection, 0);
  state.mxcsr = mxcsr;
  loadX87(state, image, isWide !== 0n);
  loadXmm(state, image);
};

export const fpuStateHelpers: Readonly<Record<string, Helper>> = { fxsave, fxrstor };
