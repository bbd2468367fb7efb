/** Several pCPUs in turns over a clock that only the test moves, with guests that never stop. */
import type { DomainRef, VcpuRef } from '../state/refs.ts';
import { MS, TestHost } from '../test-host.test-kit.ts';

/** Between two looks of a pCPU: what a run of the engine takes at most. */
export const STEP_NS = MS / 10n;

export interface Claim {
  readonly weight?: number;
  readonly cap?: number;
  readonly vcpus?: number;
}

/** A pCPU as its loop drives the scheduler, guests that never stop. */
export class Spinning {
  readonly host: TestHost;
  readonly ranNs = new Map<number, number>();
  /** Nanoseconds that a domain had of a pCPU, by `domid on pcpu`. */
  readonly ranOn = new Map<string, number>();
  readonly #running: (VcpuRef | undefined)[];

  constructor(nrPcpus: number, claims: readonly Claim[]) {
    this.host = new TestHost({ nrPcpus });
    this.#running = Array.from({ length: nrPcpus }, () => undefined);
    for (const { weight = 256, cap = 0, vcpus = 1 } of claims) {
      const domain = this.host.domain({ maxVcpus: vcpus });
      domain.v.weight = weight;
      domain.v.cap = cap;
    }
  }

  /** Time passes on all pCPUs; `before` may wake and block vCPUs. */
  run(steps: number, before: (step: number) => void = () => undefined, stepNs = STEP_NS): void {
    const { clock } = this.host;
    for (let step = 0; step < steps; step++) {
      before(step);
      this.#running.forEach((_, pcpu) => {
        this.#look(pcpu);
      });
      clock.advance(stepNs);
      for (const [pcpu, vcpu] of this.#running.entries()) {
        if (!vcpu) continue;
        const place = `${vcpu.domid} on ${pcpu}`;
        this.ranNs.set(vcpu.frame, (this.ranNs.get(vcpu.frame) ?? 0) + Number(stepNs));
        this.ranOn.set(place, (this.ranOn.get(place) ?? 0) + Number(stepNs));
      }
    }
  }

  /** What a pCPU runs. */
  on(pcpu: number): VcpuRef | undefined {
    return this.#running[pcpu];
  }

  /** As the control plane does what needs a domain off its pCPUs. */
  paused(domain: DomainRef, body: () => void): void {
    const { lifecycle, scheduler } = this.host;
    lifecycle.pause(domain);
    for (let tries = 0; !scheduler.isQuiescent(domain); tries++) {
      if (tries > 1) throw new Error(`domain ${domain.domid} does not leave its pCPUs`);
      this.run(1);
    }
    body();
    lifecycle.unpause(domain);
  }

  isRunning(vcpu: VcpuRef): boolean {
    return this.#running.some((running) => running?.frame === vcpu.frame);
  }

  #look(pcpu: number): void {
    const { scheduler, requests, core } = this.host;
    const now = core.systemTimeNs();
    const vcpu = this.#running[pcpu];
    const asked = requests.take(pcpu) !== 0;
    const ticked = scheduler.tick(pcpu, now);
    const goesOn = vcpu && scheduler.mayContinue(vcpu, pcpu, now);
    if (goesOn && !((ticked || asked) && scheduler.shouldPreempt(vcpu, pcpu, now))) return;
    if (vcpu) vcpu.v.isRunning = 0;
    const next = scheduler.schedule(pcpu, now);
    if (next) next.v.isRunning = 1;
    this.#running[pcpu] = next;
  }

  /** Seconds of pCPU that each domain has had. */
  seconds(): number[] {
    const { table } = this.host;
    const result: number[] = [];
    table.forEach((domain) => {
      let ns = 0;
      table.forEachVcpu(domain, (vcpu) => (ns += this.ranNs.get(vcpu.frame) ?? 0));
      result.push(ns / 1e9);
      return true;
    });
    return result;
  }
}
