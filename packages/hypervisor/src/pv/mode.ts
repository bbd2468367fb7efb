/**
 * Guest kernel and guest user mode: both run in ring 3; which one it is, is Xen's knowledge. The two GS bases lie as on
 * hardware: the active one in GS, the other in KERNEL_GS_BASE. `toggle_guest_mode` in xen/arch/x86/pv/domain.c.
 */
import { SEG } from '@xenhost/cpu';
import type { CpuState, Engine, Segment } from '@xenhost/cpu';
import { FLAT_RING3_CS32, FLAT_RING3_CS64, FLAT_RING3_DS } from '@xenhost/xen-abi';
import type { VcpuRef } from '../state/refs.ts';
import type { PvMemory } from './api.ts';
import { FlatSegment } from './constants.ts';

export const isKernelMode = (vcpu: VcpuRef): boolean => vcpu.v.kernelMode !== 0;

export function setGsBase(state: CpuState, base: bigint): void {
  state.setSegment(SEG.gs, { ...state.segment(SEG.gs), base });
}

export function setFsBase(state: CpuState, base: bigint): void {
  state.setSegment(SEG.fs, { ...state.segment(SEG.fs), base });
}

/** Swaps mode, GS bases and CR3; false (and nothing done) when there is no user table to run on. */
export function toggleMode(mm: PvMemory, vcpu: VcpuRef, engine: Engine): boolean {
  if (isKernelMode(vcpu) && vcpu.v.guestTableUser === 0) return false;
  const { state } = engine;
  const active = state.segmentBase(SEG.gs);
  setGsBase(state, state.kernelGsBase);
  state.kernelGsBase = active;
  vcpu.v.kernelMode = isKernelMode(vcpu) ? 0 : 1;
  mm.switchTables(vcpu, engine);
  return true;
}

/** Code and stack segment of guest kernel entry. */
export function loadFlatKernel(state: CpuState): void {
  state.setSegment(SEG.cs, FlatSegment.code64);
  state.setSegment(SEG.ss, FlatSegment.data);
}

const flat = new Map<number, Segment>([
  [FLAT_RING3_CS64, FlatSegment.code64],
  [FLAT_RING3_CS32, FlatSegment.code32],
]);

/** Loads CS as IRET to ring 3 would; false where that would fault. */
export function loadCode(engine: Engine, selector: number): boolean {
  const known = flat.get(selector);
  if (known === undefined) return engine.loadSegment('cs', selector);
  engine.state.setSegment(SEG.cs, known);
  return true;
}

/** Loads SS as IRET to ring 3 would; false where that would fault. */
export function loadStack(engine: Engine, selector: number): boolean {
  if (selector !== FLAT_RING3_DS) return engine.loadSegment('ss', selector);
  engine.state.setSegment(SEG.ss, FlatSegment.data);
  return true;
}
