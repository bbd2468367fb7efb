/**
 * What a vCPU has beyond its `vcpu_guest_context`: XCR0 with the XSAVE area as tools see it, and the callbacks of system
 * calls from 32-bit code. Answers to `xen/arch/x86/{domctl,xstate}.c`; the vCPU is not running. SDM vol. 1, chapter 13.
 */
import { bytesOf, Errno } from '@xenhost/base';
import type { View } from '@xenhost/base';
import { CpuState } from '@xenhost/cpu';
import { DomctlExtVcpucontext } from '@xenhost/xen-abi';
import type { MachineMemory } from '../state/machine-memory.ts';
import { VCPU_CPU_STATE } from '../state/records.ts';
import type { VcpuRef } from '../state/refs.ts';
import { isCanonical } from './constants.ts';
import { FXSAVE_SIZE, loadFxsave, storeFxsave } from './fpu-image.ts';
import { PvCallbackFlag } from './vcpu-state.ts';

/** Components of XCR0. */
const XSTATE = { x87: 1n, sse: 2n, avx: 4n } as const;
/** All that this host's processors have. */
export const HOST_XSTATE = XSTATE.x87 | XSTATE.sse | XSTATE.avx;
/** XCR0 and what it has ever been, before the area. */
const PREFIX = 16;
const HEADER = FXSAVE_SIZE;
const HEADER_BYTES = 64;
const AREA_MIN = HEADER + HEADER_BYTES;
const AVX = AREA_MIN;
const AVX_BYTES = 256;
const XCOMP_BV = HEADER + 8;
const RESERVED = HEADER + 16;
const VECTOR_REGISTERS = 16;
const COMPACTED = 1n << 63n;
const FCW = { at: 0, initial: 0x37f } as const;
const MXCSR_AT = 24;
const XMM_AT = 160;
/** Bytes that a set_ext_vcpucontext must at least have. */
const EXT_CONTEXT_MIN = DomctlExtVcpucontext.offsets.vmce_caps;

/** Bytes of a vCPU's state whose XCR0 was never more than this. */
export function extendedStateSize(accumulated: bigint): number {
  if (accumulated === 0n) return PREFIX;
  return PREFIX + AREA_MIN + (accumulated & XSTATE.avx ? AVX_BYTES : 0);
}

const savedState = (memory: MachineMemory, vcpu: VcpuRef): CpuState =>
  new CpuState(memory, vcpu.address + VCPU_CPU_STATE);

export function readExtendedState(memory: MachineMemory, vcpu: VcpuRef): Uint8Array {
  const accumulated = vcpu.v.xcr0Accum;
  const bytes = new Uint8Array(extendedStateSize(accumulated));
  if (accumulated === 0n) return bytes;
  const state = savedState(memory, vcpu);
  const { dv } = bytesOf(bytes);
  dv.setBigUint64(0, state.xcr0, true);
  dv.setBigUint64(8, accumulated, true);
  const area = bytes.subarray(PREFIX);
  storeFxsave(state, area.subarray(0, FXSAVE_SIZE));
  dv.setBigUint64(PREFIX + HEADER, accumulated, true);
  if (accumulated & XSTATE.avx) for (let n = 0; n < VECTOR_REGISTERS; n++) area.set(state.ymmHigh(n), AVX + 16 * n);
  return bytes;
}

/** 0 or -errno, nothing being changed then. `supported`: what XCR0 may be in the domain. */
export function writeExtendedState(memory: MachineMemory, vcpu: VcpuRef, bytes: Uint8Array, supported: bigint): number {
  if (bytes.length < PREFIX || bytes.length > extendedStateSize(HOST_XSTATE)) return -Errno.EINVAL;
  const { dv } = bytesOf(bytes);
  const [xcr0, accumulated] = [dv.getBigUint64(0, true), dv.getBigUint64(8, true)];
  const hasArea = bytes.length >= PREFIX + AREA_MIN;
  if (accumulated === 0n ? xcr0 !== 0n : !hasArea) return -Errno.EINVAL;
  if (accumulated !== 0n) {
    const error = areaError(dv, xcr0, accumulated, supported);
    if (error !== 0) return error;
  }
  if (bytes.length === PREFIX) return 0;
  if (!hasArea) return -Errno.EINVAL;
  if (dv.getBigUint64(PREFIX + XCOMP_BV, true) & COMPACTED) return -Errno.EOPNOTSUPP;
  if (bytes.length !== extendedStateSize(accumulated)) return -Errno.EINVAL;
  vcpu.v.xcr0Accum = accumulated;
  vcpu.v.loadedOn = 0;
  const state = savedState(memory, vcpu);
  state.xcr0 = xcr0;
  restore(state, bytes.slice(PREFIX));
  return 0;
}

function areaError(dv: DataView, xcr0: bigint, accumulated: bigint, supported: bigint): number {
  const present = dv.getBigUint64(PREFIX + HEADER, true);
  const fits = !(present & ~accumulated) && !(xcr0 & ~accumulated) && !(accumulated & ~supported);
  if (!fits || !isValidXcr0(xcr0) || !isValidXcr0(accumulated)) return -Errno.EINVAL;
  if (accumulated & ~HOST_XSTATE || dv.getBigUint64(PREFIX + XCOMP_BV, true) !== 0n) return -Errno.EOPNOTSUPP;
  for (let at = RESERVED; at < AREA_MIN; at += 8) if (dv.getBigUint64(PREFIX + at, true) !== 0n) return -Errno.EIO;
  return 0;
}

const isValidXcr0 = (value: bigint): boolean =>
  (value & XSTATE.x87) !== 0n && (!(value & XSTATE.avx) || (value & XSTATE.sse) !== 0n);

/** As XRSTOR of everything: components that the area does not have are in their initial state. */
function restore(state: CpuState, area: Uint8Array): void {
  const { dv } = bytesOf(area);
  const present = dv.getBigUint64(HEADER, true);
  if (!(present & XSTATE.x87)) {
    area.fill(0, 0, MXCSR_AT);
    area.fill(0, MXCSR_AT + 8, XMM_AT);
    dv.setUint16(FCW.at, FCW.initial, true);
  }
  if (!(present & XSTATE.sse)) area.fill(0, XMM_AT, XMM_AT + 16 * VECTOR_REGISTERS);
  loadFxsave(state, area.subarray(0, FXSAVE_SIZE));
  const hasAvx = (present & XSTATE.avx) !== 0n;
  for (let n = 0; n < VECTOR_REGISTERS; n++)
    if (hasAvx) state.ymmHigh(n).set(area.subarray(AVX + 16 * n, AVX + 16 * n + 16));
    else state.ymmHigh(n).fill(0);
}

type ExtContext = View<(typeof DomctlExtVcpucontext)['fields']>;

/** get_ext_vcpucontext. There are no machine checks here: no capabilities of theirs. */
export function readExtendedContext({ v }: VcpuRef, into: ExtContext): void {
  into.size = DomctlExtVcpucontext.size;
  into.syscall32_callback_eip = v.syscall32Callback;
  into.sysenter_callback_eip = v.sysenterCallback;
  into.syscall32_callback_cs = v.syscall32Cs;
  into.sysenter_callback_cs = v.sysenterCs;
  into.syscall32_disables_events = v.callbackFlags & PvCallbackFlag.syscall32 ? 1 : 0;
  into.sysenter_disables_events = v.callbackFlags & PvCallbackFlag.sysenter ? 1 : 0;
  into.vmce_caps = 0n;
  into.vmce_mci_ctl2_bank0 = 0n;
  into.vmce_mci_ctl2_bank1 = 0n;
  into.vmce_mcg_ext_ctl = 0n;
}

/** set_ext_vcpucontext: 0 or -errno. A structure without the part on machine checks is one of an older tool. */
export function writeExtendedContext({ v }: VcpuRef, from: ExtContext): number {
  if (from.size < EXT_CONTEXT_MIN) return -Errno.EINVAL;
  if (!isCanonical(from.syscall32_callback_eip) || !isCanonical(from.sysenter_callback_eip)) return -Errno.EINVAL;
  v.syscall32Callback = from.syscall32_callback_eip;
  v.sysenterCallback = from.sysenter_callback_eip;
  v.syscall32Cs = withRpl3(from.syscall32_callback_cs);
  v.sysenterCs = withRpl3(from.sysenter_callback_cs);
  const { syscall32, sysenter } = PvCallbackFlag;
  v.callbackFlags &= ~(syscall32 | sysenter);
  if (from.syscall32_disables_events) v.callbackFlags |= syscall32;
  if (from.sysenter_disables_events) v.callbackFlags |= sysenter;
  const saysOfMachineChecks = from.size > EXT_CONTEXT_MIN && from.vmce_caps !== 0n;
  return saysOfMachineChecks ? -Errno.EPERM : 0;
}

const withRpl3 = (selector: number): number => (selector & 0xffff) | 3;
