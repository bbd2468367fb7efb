import { ExitReason, newCounters } from '@xenhost/cpu';
import type { Engine } from '@xenhost/cpu';
import { DOMID, Hypercall, ProfileFlag, TraceEvent } from '@xenhost/xen-abi';
import { TestHost } from '../test-host.test-kit.ts';
import type { VcpuRef } from '../state/refs.ts';
import { Sampler } from './sampler.ts';
import type { Tracer } from './tracer.ts';

/** Numbers that look random and are the same in every run. */
function random(): () => number {
  let state = 12345;
  return () => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fff_ffff;
    return state / 0x8000_0000;
  };
}

class Sampled {
  readonly host = new TestHost();
  readonly vcpu: VcpuRef;
  readonly sampler: Sampler;
  readonly engine = { state: { rip: 0n }, counters: newCounters() };
  /** Of each sample: info and RIP. */
  readonly samples: (readonly [number, bigint])[] = [];
  now = 1_000n;

  constructor(hz = 1000, domid: number = DOMID.IDLE) {
    this.vcpu = this.host.vcpu(this.host.domain());
    this.host.traces.setSize(1);
    this.host.traces.profile(hz, domid);
    const tracer: Pick<Tracer, 'record' | 'profiling'> = {
      profiling: true,
      record: (event, _nr, ...data) => {
        const [, info = 0, low = 0, high = 0] = data;
        expect(event).toBe(TraceEvent.PROFILE_SAMPLE);
        this.samples.push([info, (BigInt(high) << 32n) | BigInt(low)]);
      },
    };
    this.sampler = new Sampler({ ...this.host.core, tracer: tracer as Tracer }, random());
  }

  /** A run at `rip` that the guest would leave after `ns` for `reason`; the budget ends it where a sample is due. */
  run(rip: bigint, ns: bigint, reason: ExitReason, compiled = false): void {
    const engine = this.engine as unknown as Engine;
    for (let left = ns; left > 0n;) {
      const due = this.sampler.beforeRun(this.vcpu, engine, this.now);
      const part = due !== 0n && due - this.now < left ? due - this.now : left;
      left -= part;
      this.now += part;
      this.engine.state.rip = left === 0n ? rip + 1n : rip;
      if (left > 0n && compiled) this.engine.counters.compiledSlices++;
      if (this.sampler.drawn)
        this.sampler.afterRun(this.vcpu, engine, left > 0n ? ExitReason.budget : reason, this.now);
    }
  }
}

test('samples fall by time, not by how often the guest leaves', () => {
  const t = new Sampled(1000);
  t.vcpu.v.kernelMode = 1;
  for (let i = 0; i < 2_000; i++) {
    for (let n = 0; n < 10; n++) t.run(0x1000n, 10_000n, ExitReason.syscall);
    t.run(0x2000n, 300_000n, ExitReason.exception, true);
  }
  const at = (page: bigint): number => t.samples.filter(([, rip]) => rip >> 12n === page).length;
  expect(t.samples.length).toBeGreaterThan(700);
  expect(t.samples.length).toBeLessThan(900);
  expect(at(2n) / t.samples.length).toBeCloseTo(0.75, 1);
  // In the middle of runs, where the code is, and not at the instruction that leaves.
  expect(t.samples.filter(([, rip]) => (rip & 0xfffn) === 0n).length).toBeGreaterThan(0.98 * t.samples.length);
  const compiled = t.samples.filter(([info]) => (info & ProfileFlag.compiled) !== 0);
  expect(compiled.every(([, rip]) => rip >> 12n === 2n)).toBe(true);
  expect(compiled.length).toBeGreaterThan(0.98 * at(2n));
  expect(t.samples.every(([info]) => (info & ProfileFlag.kernel) !== 0)).toBe(true);
});

test("time between two runs is the hypervisor's, for what the guest asked", () => {
  const t = new Sampled(1000);
  t.run(0x1000n, 1_000n, ExitReason.syscall);
  t.samples.length = 0;
  t.host.core.counters.exit(t.vcpu, ExitReason.syscall, 0);
  t.host.core.counters.hypercall(Hypercall.mmu_update);
  t.now += 100_000_000n;
  t.sampler.beforeRun(t.vcpu, t.engine as unknown as Engine, t.now);
  expect(t.samples).toEqual([
    [ProfileFlag.xen | ProfileFlag.hypercall | (ExitReason.syscall << 8) | (Hypercall.mmu_update << 16), 0x1001n],
  ]);
});

test('idle time has no samples, and other domains none', () => {
  const t = new Sampled(1000);
  t.run(0x1000n, 1_000n, ExitReason.syscall);
  t.sampler.idle();
  expect(t.sampler.drawn).toBe(false);
  t.now += 1_000_000_000n;
  t.run(0x1000n, 1n, ExitReason.syscall);
  expect(t.samples).toEqual([]);
  const other = new Sampled(1000, 7);
  other.run(0x1000n, 1_000_000_000n, ExitReason.budget);
  expect(other.samples).toEqual([]);
});
