/** sched_op (29) and its old form (6). `xen/include/public/sched.h`. */
import { bytesOf, Errno, evtchnPort } from '@xenhost/base';
import { SchedOp, SchedPoll, SchedRemoteShutdown, SchedShutdown, SchedWatchdog, TraceEvent } from '@xenhost/xen-abi';
import type { DomainPort } from '../domain/api.ts';
import type { EventChannels } from '../event/api.ts';
import type { HypercallCall, HypercallResult } from '../hypercall/types.ts';
import type { Core } from '../state/core.ts';
import { DomainFlag, VcpuFlag, VcpuLayout } from '../state/records.ts';
import type { DomainRef, VcpuRef } from '../state/refs.ts';
import { NR_WATCHDOGS } from '../time/timers.ts';
import type { Timers } from '../time/timers.ts';
import type { Scheduler } from './scheduler.ts';

/** Ports of one SCHEDOP_poll. */
const MAX_POLL_PORTS = 128;
const NS_PER_SECOND = 1_000_000_000n;

export interface SchedOpModules {
  readonly scheduler: Scheduler;
  readonly timers: Timers;
  readonly domains: DomainPort;
  readonly events: EventChannels;
}

export class SchedOperations {
  readonly #core: Core;
  readonly #m: SchedOpModules;

  constructor(core: Core, modules: SchedOpModules) {
    this.#core = core;
    this.#m = modules;
  }

  readonly hypercall = (call: HypercallCall): HypercallResult => {
    const cmd = Number(BigInt.asUintN(32, call.args[0] ?? 0n));
    const pointer = call.args[1] ?? 0n;
    const { vcpu } = call;
    switch (cmd) {
      case SchedOp.yield:
        if (vcpu) this.#m.scheduler.yield(vcpu);
        return 0;
      case SchedOp.block:
        return vcpu ? this.#block(vcpu) : -Errno.EINVAL;
      case SchedOp.shutdown: {
        const bytes = call.memory.read(pointer, SchedShutdown.size);
        if (!bytes) return -Errno.EFAULT;
        this.#m.domains.shutdown(call.domain, SchedShutdown.view(bytesOf(bytes), 0).reason & 0xff);
        return 0;
      }
      case SchedOp.poll:
        return vcpu ? this.#poll(call, vcpu, pointer) : -Errno.EINVAL;
      case SchedOp.remote_shutdown:
        return this.#remoteShutdown(call, pointer);
      case SchedOp.shutdown_code: {
        const bytes = call.memory.read(pointer, SchedShutdown.size);
        if (!bytes) return -Errno.EFAULT;
        call.domain.v.shutdownCode = SchedShutdown.view(bytesOf(bytes), 0).reason & 0xff;
        return 0;
      }
      case SchedOp.watchdog: {
        const bytes = call.memory.read(pointer, SchedWatchdog.size);
        if (!bytes) return -Errno.EFAULT;
        const { id, timeout } = SchedWatchdog.view(bytesOf(bytes), 0);
        return this.#watchdog(call.domain, id, timeout);
      }
      default:
        return -Errno.ENOSYS;
    }
  };

  /** `sched_op_compat`: yield and block by number, shutdown with the reason in the argument. */
  readonly compat = (call: HypercallCall): HypercallResult => {
    const cmd = Number(BigInt.asUintN(32, call.args[0] ?? 0n));
    if (cmd === SchedOp.shutdown) {
      this.#m.domains.shutdown(call.domain, Number(BigInt.asUintN(8, call.args[1] ?? 0n)));
      return 0;
    }
    return cmd === SchedOp.yield || cmd === SchedOp.block ? this.hypercall(call) : -Errno.ENOSYS;
  };

  /** set_timer_op (15): VIRQ_TIMER at a system time; 0 cancels. */
  readonly setTimer = (call: HypercallCall): HypercallResult => {
    if (!call.vcpu) return -Errno.EINVAL;
    const at = BigInt.asIntN(64, call.args[0] ?? 0n);
    // A time before now is raised at once; one that was meant as negative too.
    const deadline = at === 0n ? 0n : at < 0n ? 1n : at;
    this.#m.timers.setSingleshot(call.vcpu, deadline);
    return 0;
  };

  #block(vcpu: VcpuRef): number {
    this.#m.events.setUpcallMask(vcpu, false);
    if (this.#m.events.hasDeliverable(vcpu) || vcpu.v.flags & VcpuFlag.nmiPending) return 0;
    vcpu.v.flags |= VcpuFlag.blocked;
    this.#traceBlock(vcpu);
    return 0;
  }

  #traceBlock(vcpu: VcpuRef): void {
    const { tracer } = this.#core;
    if (tracer.on) tracer.ofVcpu(TraceEvent.SCHED_BLOCK, vcpu.domid, vcpu.vcpuId);
  }

  #poll(call: HypercallCall, vcpu: VcpuRef, pointer: bigint): number {
    const bytes = call.memory.read(pointer, SchedPoll.size);
    if (!bytes) return -Errno.EFAULT;
    const { ports: portsAt, nr_ports: count, timeout } = SchedPoll.view(bytesOf(bytes), 0);
    if (count > MAX_POLL_PORTS) return -Errno.EINVAL;
    const list = call.memory.read(portsAt, count * 4);
    if (!list) return -Errno.EFAULT;
    const ports = Array.from({ length: count }, (_, i) => bytesOf(list).dv.getUint32(i * 4, true));
    for (const port of ports) {
      if (!this.#m.events.isValidPort(call.domain, port)) return -Errno.EINVAL;
      if (this.#m.events.isPending(call.domain, evtchnPort(port))) return 0;
    }
    if (this.#m.events.hasDeliverable(vcpu)) return 0;
    const at = (vcpu.address + VcpuLayout.offsets.pollPorts) / 4;
    ports.forEach((port, i) => (this.#core.memory.u32[at + i] = port));
    vcpu.v.pollCount = count;
    vcpu.v.flags |= VcpuFlag.polling | VcpuFlag.blocked;
    this.#traceBlock(vcpu);
    if (timeout !== 0n) this.#m.timers.setPoll(vcpu, timeout > MAX_DEADLINE ? MAX_DEADLINE : timeout);
    return 0;
  }

  #remoteShutdown(call: HypercallCall, pointer: bigint): number {
    const bytes = call.memory.read(pointer, SchedRemoteShutdown.size);
    if (!bytes) return -Errno.EFAULT;
    const { domain_id: id, reason } = SchedRemoteShutdown.view(bytesOf(bytes), 0);
    const target = this.#m.domains.lookup(id);
    if (!target) return -Errno.ESRCH;
    if (!(call.domain.v.flags & DomainFlag.privileged) && call.domain.v.targetDomid !== id) return -Errno.EPERM;
    this.#m.domains.shutdown(target, reason & 0xff);
    return 0;
  }

  /** Timers 1 and 2; id 0 takes a free one. Timeouts in seconds. */
  #watchdog(domain: DomainRef, id: number, timeout: number): number {
    if (id > NR_WATCHDOGS) return -Errno.EINVAL;
    const deadline = this.#core.systemTimeNs() + BigInt(timeout) * NS_PER_SECOND;
    const { timers } = this.#m;
    if (id === 0) {
      if (timeout === 0) return -Errno.EINVAL;
      for (let i = 0; i < NR_WATCHDOGS; i++)
        if (timers.watchdog(domain, i) === 0n) {
          timers.setWatchdog(domain, i, deadline);
          return i + 1;
        }
      return -Errno.ENOSPC;
    }
    if (timers.watchdog(domain, id - 1) === 0n) return -Errno.EINVAL;
    timers.setWatchdog(domain, id - 1, timeout === 0 ? 0n : deadline);
    return 0;
  }
}

/** Far enough for ever, and positive as a signed number. */
const MAX_DEADLINE = (1n << 62n) - 1n;
