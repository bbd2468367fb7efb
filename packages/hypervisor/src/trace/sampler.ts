/**
 * Where guests spend their time, by samples: a PROFILE_SAMPLE record for each. One per pCPU, called by its loop.
 *
 * A sample falls due at a random time. The run that it falls into is made to end there (its budget is cut as for a timer);
 * should the guest leave earlier for another reason, its next run is cut, so that how often code leaves has no say in how often
 * it is seen. Time between two runs is the hypervisor's: such a sample names what the guest had asked for. An idle
 * pCPU has no samples.
 */
import { ExitReason } from '@xenhost/cpu';
import type { Engine } from '@xenhost/cpu';
import { DOMID, ProfileFlag, TraceEvent } from '@xenhost/xen-abi';
import type { Core } from '../state/core.ts';
import type { VcpuRef } from '../state/refs.ts';
import { vcpuOf } from './tracer.ts';

const U32 = 0xffff_ffffn;

export class Sampler {
  readonly #core: Core;
  readonly #random: () => number;
  /** System time of the next sample, 0n for none drawn. */
  #dueNs = 0n;
  #compiledSlices = 0;

  /** `random`: from 0 to below 1. */
  constructor(core: Core, random: () => number = Math.random) {
    this.#core = core;
    this.#random = random;
  }

  /** Time does not count until the next run: the pCPU goes idle, or nothing is sampled. */
  idle(): bigint {
    this.#dueNs = 0n;
    return 0n;
  }

  /** Before a run that starts at `now`: when it is to end for the next sample, 0n for never. */
  beforeRun(vcpu: VcpuRef, engine: Engine, now: bigint): bigint {
    if (!this.#core.tracer.profiling) return this.idle();
    if (this.#dueNs === 0n) this.#draw(now);
    else if (now >= this.#dueNs) {
      const { lastHypercall, lastExit } = this.#core.counters;
      const asked = lastHypercall < 0 ? 0 : ProfileFlag.hypercall | (lastHypercall << 16);
      this.#sample(vcpu, engine, ProfileFlag.xen | asked | (lastExit << 8));
      this.#draw(now);
    }
    this.#compiledSlices = engine.counters.compiledSlices;
    return this.#dueNs;
  }

  /** After a run that a sample was due in, when it is over at `now`. */
  afterRun(vcpu: VcpuRef, engine: Engine, reason: ExitReason, now: bigint): void {
    if (this.#dueNs === 0n || now < this.#dueNs || !this.#core.tracer.profiling) return;
    const compiled = engine.counters.compiledSlices !== this.#compiledSlices ? ProfileFlag.compiled : 0;
    this.#sample(vcpu, engine, compiled | (reason << 8));
    this.#draw(now);
  }

  /** True while a sample is drawn: `afterRun` wants the time. */
  get drawn(): boolean {
    return this.#dueNs !== 0n;
  }

  #sample(vcpu: VcpuRef, engine: Engine, info: number): void {
    const wanted = this.#core.header.profileDomid;
    if (wanted !== DOMID.IDLE && wanted !== vcpu.domid) return;
    const { rip } = engine.state;
    const flags = info | (vcpu.v.kernelMode !== 0 ? ProfileFlag.kernel : 0);
    this.#core.tracer.record(
      TraceEvent.PROFILE_SAMPLE, 5, vcpuOf(vcpu.domid, vcpu.vcpuId), flags >>> 0, Number(rip & U32), Number(rip >> 32n),
      vcpu.v.guestTable,
    ); // prettier-ignore
  }

  /** Gaps without memory (exponential): no rhythm of the guest's keeps step with them, and idle time may cut one. */
  #draw(now: bigint): void {
    const period = Number(this.#core.header.profilePeriodNs);
    this.#dueNs = now + BigInt(Math.ceil(-period * Math.log(1 - this.#random())));
  }
}
