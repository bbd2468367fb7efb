/**
 * The time that guests read from memory: `vcpu_time_info` in vcpu_info (and in a registered area) and the wall clock in
 * shared_info (`xen/include/public/xen.h`). Versions are odd while a structure is being written.
 */
import { PAGE_SIZE, PvclockFlag, SharedInfo, VcpuInfo, VcpuTimeInfo } from '@xenhost/xen-abi';
import type { Core } from '../state/core.ts';
import type { DomainRef, VcpuRef } from '../state/refs.ts';
import { TSC_SHIFT, TSC_TO_SYSTEM_MUL } from './clock.ts';

const NS_PER_SECOND = 1_000_000_000n;

/** Writes one `vcpu_time_info` at a byte address of machine memory. TSC 0 is system time 0. */
export function writeTimeInfo(core: Core, address: number): void {
  const time = VcpuTimeInfo.view(core.memory, address);
  const version = (time.version & ~1) >>> 0;
  time.version = (version + 1) >>> 0;
  time.tsc_timestamp = 0n;
  time.system_time = 0n;
  time.tsc_to_system_mul = TSC_TO_SYSTEM_MUL;
  time.tsc_shift = TSC_SHIFT;
  time.flags = PvclockFlag.tsc_stable;
  time.version = (version + 2) >>> 0;
}

/** The vCPU's copy in its vcpu_info; nothing when it has none yet. */
export function writeVcpuTime(core: Core, vcpu: VcpuRef): void {
  if (vcpu.v.infoMfn === 0) return;
  writeTimeInfo(core, vcpu.v.infoMfn * PAGE_SIZE + vcpu.v.infoOffset + VcpuInfo.offsets.time);
}

/** Before a vCPU runs: toolstacks clear shared_info, times included, after the vCPU was made. */
export function refreshVcpuTime(core: Core, vcpu: VcpuRef): void {
  if (vcpu.v.infoMfn === 0) return;
  const at = vcpu.v.infoMfn * PAGE_SIZE + vcpu.v.infoOffset + VcpuInfo.offsets.time;
  const mul = core.memory.dv.getUint32(at + VcpuTimeInfo.offsets.tsc_to_system_mul, true);
  if (mul !== TSC_TO_SYSTEM_MUL) writeTimeInfo(core, at);
}

/** The wall-clock time at system time 0, shifted by the domain's time offset. */
export function writeWallclock(core: Core, domain: DomainRef): void {
  if (domain.v.sharedInfoMfn === 0) return;
  const ns = core.header.bootWallNs + domain.v.timeOffsetSeconds * NS_PER_SECOND;
  const seconds = BigInt.asUintN(64, ns / NS_PER_SECOND);
  const info = SharedInfo.view(core.memory, domain.v.sharedInfoMfn * PAGE_SIZE);
  const version = (info.wc_version & ~1) >>> 0;
  info.wc_version = (version + 1) >>> 0;
  info.wc_sec = Number(seconds & 0xffff_ffffn);
  info.wc_sec_hi = Number(seconds >> 32n);
  info.wc_nsec = Number(ns % NS_PER_SECOND);
  info.wc_version = (version + 2) >>> 0;
}
