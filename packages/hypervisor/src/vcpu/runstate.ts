/**
 * Run state accounting of a vCPU (`xen/include/public/vcpu.h`, VCPUOP_get_runstate_info) and the copy of it that a guest
 * may register. The guest's addresses are walked through its kernel tables, so that the copy can be written whatever
 * mode it is in and whether it is loaded or not.
 */
import { Runstate, RUNSTATE_UPDATE, VcpuRunstateInfo, VMASST } from '@xenhost/xen-abi';
import { writeGuest } from './guest-area.ts';
import type { Core } from '../state/core.ts';
import type { MachineMemory } from '../state/machine-memory.ts';
import { VcpuLayout } from '../state/records.ts';
import type { DomainRef, VcpuRef } from '../state/refs.ts';

const STATES = 4;

/** Word index in `memory.u64` of the time spent in a state. */
const timeIndex = (vcpu: VcpuRef, state: number): number =>
  (vcpu.address + VcpuLayout.offsets.runstateTimes) / 8 + state;

/** Enters a run state; the time since the last change is charged to the state left. */
export function setRunstate(core: Core, vcpu: VcpuRef, state: Runstate, now: bigint): void {
  const { v } = vcpu;
  const { memory, tracer } = core;
  if (v.runstate === state) return;
  if (tracer.on) tracer.runstate(vcpu.domid, vcpu.vcpuId, v.runstate, state);
  const at = timeIndex(vcpu, v.runstate);
  memory.u64[at] = (memory.u64[at] ?? 0n) + (now - v.runstateEntryNs);
  v.runstate = state;
  v.runstateEntryNs = now;
}

/** Nanoseconds spent in a state up to `now`. */
export function runstateTime(memory: MachineMemory, vcpu: VcpuRef, state: Runstate, now: bigint): bigint {
  const past = memory.u64[timeIndex(vcpu, state)] ?? 0n;
  return vcpu.v.runstate === state ? past + (now - vcpu.v.runstateEntryNs) : past;
}

/** Nanoseconds of CPU used by all vCPUs of a domain are the sum of this. */
export const cpuTime = (memory: MachineMemory, vcpu: VcpuRef, now: bigint): bigint =>
  runstateTime(memory, vcpu, Runstate.running, now);

/** The structure that guests read. */
export function runstateInfo(memory: MachineMemory, vcpu: VcpuRef): Uint8Array {
  const { bytes, view } = VcpuRunstateInfo.create();
  view.state = vcpu.v.runstate;
  view.state_entry_time = vcpu.v.runstateEntryNs;
  const times = new BigUint64Array(bytes.buffer, VcpuRunstateInfo.offsets.time, STATES);
  for (let i = 0; i < STATES; i++) times[i] = memory.u64[timeIndex(vcpu, i)] ?? 0n;
  return bytes;
}

/**
 * Brings the registered area up to date. With the vm_assist the entry time carries RUNSTATE_UPDATE while the rest is
 * being written. An area that is not mapped is left alone.
 */
export function updateRunstateArea(core: Core, domain: DomainRef, vcpu: VcpuRef): void {
  const va = vcpu.v.runstateAreaVa;
  if (va === 0n) return;
  const info = runstateInfo(core.memory, vcpu);
  if (((domain.v.vmAssist >>> VMASST.RUNSTATE_UPDATE_FLAG) & 1) === 0) {
    writeGuest(core.memory, vcpu, va, info);
    return;
  }
  const entry = VcpuRunstateInfo.offsets.state_entry_time;
  const view = new DataView(info.buffer);
  const entryTime = view.getBigUint64(entry, true);
  view.setBigUint64(entry, entryTime | RUNSTATE_UPDATE, true);
  if (!writeGuest(core.memory, vcpu, va, info)) return;
  view.setBigUint64(entry, entryTime, true);
  writeGuest(core.memory, vcpu, va + BigInt(entry), info.subarray(entry, entry + 8));
}
