/** vcpu_op (24): SMP bring-up, run state, timers, registered areas. `xen/include/public/vcpu.h`. */
import { bytesOf, Errno } from '@xenhost/base';
import {
  PAGE_SIZE,
  VCPU_SSHOTTMR_FUTURE,
  VcpuGuestContext,
  VcpuInfo,
  VcpuOp,
  VcpuRegisterArea,
  VcpuRegisterVcpuInfo,
  VcpuSetPeriodicTimer,
  VcpuSetSingleshotTimer,
} from '@xenhost/xen-abi';
import type { DomainPort } from '../domain/api.ts';
import type { EventChannels } from '../event/api.ts';
import type { HypercallCall, HypercallResult } from '../hypercall/types.ts';
import type { Pv } from '../pv/api.ts';
import type { Scheduler } from '../sched/scheduler.ts';
import type { Core } from '../state/core.ts';
import { VcpuFlag } from '../state/records.ts';
import type { DomainRef, VcpuRef } from '../state/refs.ts';
import { writeTimeInfo, writeVcpuTime } from '../time/shared-time.ts';
import { MIN_PERIOD_NS } from '../time/timers.ts';
import type { Timers } from '../time/timers.ts';
import { writableMachineAddress } from './guest-area.ts';
import { runstateInfo, updateRunstateArea } from './runstate.ts';

export interface VcpuOpModules {
  readonly domains: DomainPort;
  readonly scheduler: Scheduler;
  readonly timers: Timers;
  readonly events: EventChannels;
  readonly pv: Pick<Pv, 'initContext' | 'sendNmi'>;
  takeWritableFrame(domain: DomainRef, gfn: bigint): number | undefined;
}

/** Longest period that is kept as it is (an s64 of ns must not overflow). */
const MAX_PERIOD_NS = (1n << 62n) - 1n;
const TIME_INFO_SIZE = 32n;

export class VcpuOperations {
  readonly #core: Core;
  readonly #m: VcpuOpModules;

  constructor(core: Core, modules: VcpuOpModules) {
    this.#core = core;
    this.#m = modules;
  }

  readonly hypercall = (call: HypercallCall): HypercallResult => {
    const cmd = Number(BigInt.asUintN(32, call.args[0] ?? 0n));
    const id = Number(BigInt.asUintN(32, call.args[1] ?? 0n));
    const pointer = call.args[2] ?? 0n;
    const vcpu = this.#m.domains.vcpu(call.domain, id);
    if (!vcpu) return -Errno.ENOENT;
    switch (cmd) {
      case VcpuOp.initialise:
        return this.#initialise(call, vcpu, pointer);
      case VcpuOp.up:
        return this.#up(vcpu);
      case VcpuOp.down:
        return this.#down(call, vcpu);
      case VcpuOp.is_up:
        return vcpu.v.flags & VcpuFlag.down ? 0 : 1;
      case VcpuOp.get_runstate_info:
        return call.memory.write(pointer, runstateInfo(this.#core.memory, vcpu)) ? 0 : -Errno.EFAULT;
      case VcpuOp.register_runstate_memory_area:
        return this.#registerRunstate(call, vcpu, pointer);
      case VcpuOp.set_periodic_timer:
        return this.#setPeriodic(call, vcpu, pointer);
      case VcpuOp.stop_periodic_timer:
        this.#m.timers.setPeriodic(vcpu, 0n);
        return 0;
      case VcpuOp.set_singleshot_timer:
        return this.#setSingleshot(call, vcpu, pointer);
      case VcpuOp.stop_singleshot_timer:
        if (vcpu.frame !== call.vcpu?.frame) return -Errno.EINVAL;
        this.#m.timers.setSingleshot(vcpu, 0n);
        return 0;
      case VcpuOp.register_vcpu_info:
        return this.#registerInfo(call, vcpu, pointer);
      case VcpuOp.send_nmi:
        this.#m.pv.sendNmi(vcpu);
        return 0;
      case VcpuOp.register_vcpu_time_memory_area:
        return this.#registerTime(call, vcpu, pointer);
      default:
        // get_physid is for a Domain-0 that is pinned to its pCPUs: there is none.
        return cmd === VcpuOp.get_physid ? -Errno.EINVAL : -Errno.ENOSYS;
    }
  };

  #initialise(call: HypercallCall, vcpu: VcpuRef, pointer: bigint): HypercallResult {
    if (vcpu.v.infoMfn === 0) return -Errno.EINVAL;
    if (vcpu.v.flags & VcpuFlag.initialised) return -Errno.EEXIST;
    const context = call.memory.read(pointer, VcpuGuestContext.size);
    if (!context) return -Errno.EFAULT;
    const result = this.#m.pv.initContext(vcpu, context);
    if (result === 0) {
      vcpu.v.flags |= VcpuFlag.initialised;
      vcpu.v.loadedOn = 0;
    }
    return result;
  }

  #up(vcpu: VcpuRef): number {
    if (!(vcpu.v.flags & VcpuFlag.initialised)) return -Errno.EINVAL;
    if (!(vcpu.v.flags & VcpuFlag.down)) return 0;
    vcpu.v.flags &= ~VcpuFlag.down;
    writeVcpuTime(this.#core, vcpu);
    this.#m.scheduler.wake(vcpu);
    return 0;
  }

  /** The last vCPU that goes down takes the domain with it. */
  #down(call: HypercallCall, vcpu: VcpuRef): number {
    vcpu.v.flags |= VcpuFlag.down;
    const isUp = (other: VcpuRef): boolean => !(other.v.flags & VcpuFlag.down);
    if (this.#m.domains.vcpus(call.domain).some(isUp)) this.#m.scheduler.sleep(vcpu);
    else this.#m.domains.shutdown(call.domain, 0);
    return 0;
  }

  #registerRunstate(call: HypercallCall, vcpu: VcpuRef, pointer: bigint): number {
    const bytes = call.memory.read(pointer, VcpuRegisterArea.size);
    if (!bytes) return -Errno.EFAULT;
    const { addr } = VcpuRegisterArea.view(bytesOf(bytes), 0);
    vcpu.v.runstateAreaVa = addr;
    updateRunstateArea(this.#core, call.domain, vcpu);
    return 0;
  }

  #setPeriodic(call: HypercallCall, vcpu: VcpuRef, pointer: bigint): number {
    const bytes = call.memory.read(pointer, VcpuSetPeriodicTimer.size);
    if (!bytes) return -Errno.EFAULT;
    const { period_ns: period } = VcpuSetPeriodicTimer.view(bytesOf(bytes), 0);
    if (period < MIN_PERIOD_NS) return -Errno.EINVAL;
    if (period > MAX_PERIOD_NS) return -Errno.EINVAL;
    this.#m.timers.setPeriodic(vcpu, period);
    return 0;
  }

  #setSingleshot(call: HypercallCall, vcpu: VcpuRef, pointer: bigint): number {
    if (vcpu.frame !== call.vcpu?.frame) return -Errno.EINVAL;
    const bytes = call.memory.read(pointer, VcpuSetSingleshotTimer.size);
    if (!bytes) return -Errno.EFAULT;
    const { timeout_abs_ns: at, flags } = VcpuSetSingleshotTimer.view(bytesOf(bytes), 0);
    if (flags & VCPU_SSHOTTMR_FUTURE && at < this.#core.systemTimeNs()) return -Errno.ETIME;
    this.#m.timers.setSingleshot(vcpu, at === 0n ? 1n : at > MAX_PERIOD_NS ? MAX_PERIOD_NS : at);
    return 0;
  }

  /** Moves the vcpu_info, once. The frame stays of type writable for the rest of the domain's life. */
  #registerInfo(call: HypercallCall, vcpu: VcpuRef, pointer: bigint): number {
    const bytes = call.memory.read(pointer, VcpuRegisterVcpuInfo.size);
    if (!bytes) return -Errno.EFAULT;
    const { mfn, offset } = VcpuRegisterVcpuInfo.view(bytesOf(bytes), 0);
    if (offset > PAGE_SIZE - VcpuInfo.size || offset % 8 !== 0) return -Errno.EINVAL;
    if (vcpu.v.infoRegistered) return -Errno.EINVAL;
    if (vcpu.frame !== call.vcpu?.frame && !(vcpu.v.flags & VcpuFlag.down)) return -Errno.EINVAL;
    const frame = this.#m.takeWritableFrame(call.domain, mfn);
    if (frame === undefined) return -Errno.EINVAL;
    const { u8 } = this.#core.memory;
    const to = frame * PAGE_SIZE + offset;
    const from = vcpu.v.infoMfn * PAGE_SIZE + vcpu.v.infoOffset;
    if (vcpu.v.infoMfn !== 0) u8.copyWithin(to, from, from + VcpuInfo.size);
    vcpu.v.infoMfn = frame;
    vcpu.v.infoOffset = offset;
    vcpu.v.infoRegistered = 1;
    this.#m.events.vcpuInfoMoved(vcpu);
    return 0;
  }

  /** A second `vcpu_time_info`, for the vDSO. Times never change here, so writing it once is enough. */
  #registerTime(call: HypercallCall, vcpu: VcpuRef, pointer: bigint): number {
    const bytes = call.memory.read(pointer, VcpuRegisterArea.size);
    if (!bytes) return -Errno.EFAULT;
    const { addr } = VcpuRegisterArea.view(bytesOf(bytes), 0);
    vcpu.v.timeAreaVa = addr;
    if (addr === 0n) return 0;
    const address = writableMachineAddress(this.#core.memory, vcpu, addr);
    const last = writableMachineAddress(this.#core.memory, vcpu, addr + TIME_INFO_SIZE - 1n);
    if (address === undefined || last !== address + Number(TIME_INFO_SIZE) - 1) return -Errno.EFAULT;
    writeTimeInfo(this.#core, address);
    return 0;
  }
}
