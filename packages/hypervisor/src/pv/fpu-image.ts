/** The FXSAVE image of a vcpu_guest_context, to and from the engine's x87 and SSE state. SDM vol. 1, section 10.5. */
import type { CpuState } from '@xenhost/cpu';

export const FXSAVE_SIZE = 512;
const ST_OFFSET = 32;
const XMM_OFFSET = 160;
const FCW_DEFAULT = 0x37f;
const MXCSR_DEFAULT = 0x1f80;
const MXCSR_MASK = 0xffff;

const topOf = (fsw: number): number => (fsw >> 11) & 7;

/** Loads the image; undefined resets to the defaults of a new vCPU. */
export function loadFxsave(state: CpuState, image: Uint8Array | undefined): void {
  for (let n = 0; n < 8; n++) state.fpr(n).fill(0);
  for (let n = 0; n < 16; n++) state.xmm(n).fill(0);
  state.fcw = FCW_DEFAULT;
  state.fsw = 0;
  state.ftw = 0;
  state.fop = 0;
  state.fip = 0n;
  state.fdp = 0n;
  state.mxcsr = MXCSR_DEFAULT;
  if (image === undefined) return;
  const dv = new DataView(image.buffer, image.byteOffset, image.byteLength);
  state.fcw = dv.getUint16(0, true);
  state.fsw = dv.getUint16(2, true);
  state.ftw = dv.getUint8(4);
  state.fop = dv.getUint16(6, true);
  state.fip = dv.getBigUint64(8, true);
  state.fdp = dv.getBigUint64(16, true);
  state.mxcsr = dv.getUint32(24, true) & MXCSR_MASK;
  const top = topOf(state.fsw);
  for (let n = 0; n < 8; n++) {
    state.fpr((top + n) & 7).set(image.subarray(ST_OFFSET + 16 * n, ST_OFFSET + 16 * n + 10));
  }
  for (let n = 0; n < 16; n++) state.xmm(n).set(image.subarray(XMM_OFFSET + 16 * n, XMM_OFFSET + 16 * n + 16));
}

export function storeFxsave(state: CpuState, image: Uint8Array): void {
  const dv = new DataView(image.buffer, image.byteOffset, image.byteLength);
  dv.setUint16(0, state.fcw, true);
  dv.setUint16(2, state.fsw, true);
  dv.setUint8(4, state.ftw);
  dv.setUint16(6, state.fop, true);
  dv.setBigUint64(8, state.fip, true);
  dv.setBigUint64(16, state.fdp, true);
  dv.setUint32(24, state.mxcsr, true);
  dv.setUint32(28, MXCSR_MASK, true);
  const top = topOf(state.fsw);
  for (let n = 0; n < 8; n++) image.set(state.fpr((top + n) & 7), ST_OFFSET + 16 * n);
  for (let n = 0; n < 16; n++) image.set(state.xmm(n), XMM_OFFSET + 16 * n);
}
