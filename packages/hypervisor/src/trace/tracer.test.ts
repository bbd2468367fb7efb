import fc from 'fast-check';
import { Errno } from '@xenhost/base';
import { DOMID, PAGE_SIZE, TraceBuf, TraceClass, TraceEvent } from '@xenhost/xen-abi';
import { recordsOf } from '@xenhost/xentrace';
import type { TraceRecord } from '@xenhost/xentrace';
import { Observing } from '../state/records.ts';
import { TestHost } from '../test-host.test-kit.ts';
import { COUNTER } from './counter-table.ts';
import { PerfCounters } from './perf.ts';
import { quietObserver } from './observer.test-kit.ts';
import { Tracer } from './tracer.ts';

/** A host with a tool's eyes: reads a pCPU's buffer as xentrace does. */
class Traced {
  readonly host: TestHost;
  readonly tracer: Tracer;
  tsc = 0n;

  constructor(options: { pages?: number; nrPcpus?: number; pcpu?: number | undefined } = {}) {
    const { pages = 1, nrPcpus = 1 } = options;
    this.host = new TestHost({ nrPcpus });
    expect(this.host.traces.setSize(pages)).toBe(0);
    const { memory, map } = this.host.core;
    const pcpu = 'pcpu' in options ? options.pcpu : 0;
    this.tracer = quietObserver(memory, map, pcpu, () => this.tsc++).tracer;
  }

  frames(pcpu = 0): number[] {
    const { memory, header } = this.host.core;
    const info = header.traceInfoMfn * PAGE_SIZE;
    const list = memory.dv.getUint16(info + 2 + 2 * pcpu, true);
    const nr = memory.dv.getUint16(info, true);
    return Array.from({ length: nr }, (_, i) => memory.dv.getUint32(info + (list + i) * 4, true));
  }

  head(pcpu = 0) {
    return TraceBuf.view(this.host.core.memory, (this.frames(pcpu)[0] ?? 0) * PAGE_SIZE);
  }

  read(pcpu = 0): TraceRecord[] {
    const frames = this.frames(pcpu);
    const all = new Uint8Array(frames.length * PAGE_SIZE);
    frames.forEach((mfn, i) => {
      all.set(this.host.core.memory.frame(mfn), i * PAGE_SIZE);
    });
    const data = all.subarray(TraceBuf.size);
    const head = this.head(pcpu);
    const size = data.length;
    const length = (head.prod - head.cons + 2 * size) % (2 * size);
    const start = head.cons % size;
    const bytes = new Uint8Array(length);
    for (let i = 0; i < length; i++) bytes[i] = data[(start + i) % size] ?? 0;
    head.cons = head.prod;
    return [...recordsOf(bytes, pcpu)];
  }
}

const EVENT = TraceEvent.SCHED_YIELD;

describe('a tracer', () => {
  test('writes nothing until it is switched on', () => {
    const host = new TestHost();
    const { tracer } = host.core;
    expect(tracer.on).toBe(false);
    tracer.record(EVENT, 1, 5);
    expect(host.traces.enable()).toBe(-Errno.EINVAL);
    expect(host.traces.info()).toEqual({ eventMask: TraceClass.ALL, mfn: 0, sizeBytes: 0 });
  });

  test('records hold event, time and data, each kind as Xen lays it out', () => {
    const t = new Traced();
    const { tracer } = t;
    tracer.trap(0x1234_5678_9abc_def0n, 13, 0x18);
    tracer.trap(1n, 6, undefined);
    tracer.pageFault(0xffff_ffff_8100_0000n, 0x7f00_0000_1000n, 6);
    tracer.ptwr(0x8000_0000_0000_0067n, 0xffff_8880_0000_0008n, 3n);
    tracer.hypercall(TraceEvent.PV_HYPERCALL_V2, 20, [1n, 0xffff_0000_0000n, 7n]);
    tracer.hypercall(TraceEvent.PV_HYPERCALL_SUBCALL, 14, [1n, 2n]);
    tracer.runstate(3, 1, 2, 1);
    const seen = t
      .read()
      .map(({ event, data, tsc }) => [event.toString(16), Number(tsc), ...data.map((w) => w.toString(16))]);
    expect(seen).toEqual([
      ['201103', 0, '9abcdef0', '12345678', '18800d'],
      ['201103', 1, '1', '0', '6'],
      ['201104', 2, '81000000', 'ffffffff', '1000', '7f00', '6'],
      ['20110b', 3, '67', '80000000', '8', 'ffff8880', '3', '0'],
      ['20100d', 4, '1100014', '1', '7'],
      ['20200e', 5, 'e'],
      ['21211', 6, '30001'],
    ]);
  });

  test.each([
    ['another class', TraceClass.PV, 1n, false],
    ['the class', TraceClass.SCHED, 1n, true],
    ['another subclass', 0x0002_1000, 1n, false],
    ['the subclass', 0x0002_8000, 1n, true],
    ['another CPU', TraceClass.ALL, 2n, false],
  ])('with a mask of %s', (_, events, cpus, wanted) => {
    const t = new Traced();
    t.host.traces.setEventMask(events);
    t.host.traces.setCpuMask(cpus);
    t.tracer.record(EVENT, 1, 5);
    expect(t.read()).toHaveLength(wanted ? 1 : 0);
  });

  test('idle time is told by the vCPU of the idle domain', () => {
    const t = new Traced({ nrPcpus: 2, pcpu: 1 });
    t.tracer.idle();
    t.tracer.idle();
    t.tracer.runstate(1, 0, 2, 1);
    t.tracer.runstate(1, 0, 1, 0);
    expect(t.read(0)).toEqual([]);
    const idle = ((DOMID.IDLE << 16) | 1) >>> 0;
    expect(t.read(1).map(({ event, data }) => [event, ...data])).toEqual([
      [TraceEvent.SCHED_RUNSTATE_CHANGE | 0x100, idle],
      [TraceEvent.SCHED_RUNSTATE_CHANGE | 0x210, 0x10000],
      [TraceEvent.SCHED_RUNSTATE_CHANGE | 0x010, idle],
      [TraceEvent.SCHED_RUNSTATE_CHANGE | 0x100, 0x10000],
    ]);
  });

  test('the control plane writes into the buffer of pCPU 0', () => {
    const t = new Traced({ nrPcpus: 2, pcpu: undefined });
    t.tracer.record(EVENT, 1, 5);
    expect(t.read(0)).toHaveLength(1);
  });

  test('says once that the buffer became half full', () => {
    const t = new Traced();
    const half = Math.ceil((PAGE_SIZE - TraceBuf.size) / 2 / 16);
    for (let i = 1; i < half; i++) t.tracer.record(EVENT, 1, i);
    expect(t.tracer.takeFilling()).toBe(false);
    t.tracer.record(EVENT, 1, 0);
    expect([t.tracer.takeFilling(), t.tracer.takeFilling()]).toEqual([true, false]);
  });

  test.each([
    ['not of four', 3],
    ['past the end', 2 * (PAGE_SIZE - TraceBuf.size)],
    ['far away', 0xffff_fffc],
  ])('ends tracing when a tool writes an index %s', (_, cons) => {
    const t = new Traced();
    t.head().cons = cons;
    t.tracer.record(EVENT, 1, 5);
    expect(t.host.core.header.observing & Observing.trace).toBe(0);
    expect(t.head().prod).toBe(0);
  });

  test('a tool that writes any indices harms nothing but its own buffer', () => {
    const size = 2 * (PAGE_SIZE - TraceBuf.size);
    const index = fc.integer({ min: 0, max: size / 4 - 1 }).map((words) => words * 4);
    fc.assert(
      fc.property(index, index, fc.integer({ min: 1, max: 300 }), (cons, prod, times) => {
        const t = new Traced();
        const { memory } = t.host.core;
        const [mfn = 0] = t.frames();
        const around = (): Buffer[] => [mfn - 1, mfn + 1].map((frame) => Buffer.from(memory.frame(frame)));
        const before = around();
        Object.assign(t.head(), { cons, prod });
        for (let i = 0; i < times; i++) t.tracer.record(EVENT, i % 7, i);
        expect(around()).toEqual(before);
        expect(t.head().prod).toBeLessThan(size);
      }),
      { numRuns: 40 },
    );
  });

  test('whatever is written and read when: records come in order, whole, and the lost ones are counted', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 3 }),
        fc.array(fc.record({ words: fc.integer({ min: 0, max: 6 }), times: fc.integer({ min: 1, max: 90 }), read: fc.boolean() }), { maxLength: 30 }),
        (pages, steps) => {
          const t = new Traced({ pages });
          const seen: TraceRecord[] = [];
          let written = 0;
          for (const { words, times, read } of steps) {
            for (let i = 0; i < times; i++) t.tracer.record(EVENT, words, ++written, written, written, written, written, written);
            if (read) seen.push(...t.read());
          }
          seen.push(...t.read());
          let expected = 0;
          let lost = 0;
          let last = -1n;
          for (const { event, data, tsc = -1n } of seen) {
            if (tsc < last) throw new Error(`time goes back from ${last} to ${tsc}`);
            last = tsc;
            if (event === TraceEvent.LOST_RECORDS) {
              lost += data[0] ?? 0;
              expected += data[0] ?? 0;
              continue;
            }
            expected++;
            if (data.some((word) => word !== expected)) throw new Error(`record ${expected} holds ${data.join()}`);
          }
          const perf = new PerfCounters(t.host.core);
          expect(perf.value(0, COUNTER.traceRecords) + perf.value(0, COUNTER.traceLost)).toBe(written);
          expect(expected).toBeLessThanOrEqual(written);
          expect(lost).toBeLessThanOrEqual(perf.value(0, COUNTER.traceLost));
        },
      ),
      { numRuns: 30 },
    ); // prettier-ignore
  });
});

describe('trace buffers', () => {
  test('are made once; tools may write the buffers and read what describes them', () => {
    const { traces, core } = new TestHost({ nrPcpus: 2 });
    expect(traces.setSize(0)).toBe(-Errno.EINVAL);
    expect(traces.setSize(3)).toBe(0);
    expect([traces.setSize(3), traces.setSize(4)]).toEqual([-Errno.EBUSY, -Errno.EINVAL]);
    const { mfn, sizeBytes } = traces.info();
    expect(sizeBytes).toBe(PAGE_SIZE);
    expect([traces.maps(mfn, false), traces.maps(mfn, true), traces.maps(mfn + 1, true)]).toEqual([true, false, true]);
    expect(traces.maps(mfn + 1 + 6, false)).toBe(false);
    expect(traces.maps(0, false)).toBe(false);
    expect(core.header.observing).toBe(Observing.trace);
    expect(traces.disable(() => undefined)).toBe(0);
    expect(core.header.observing).toBe(0);
    expect(traces.enable()).toBe(0);
  });

  test('sampling needs them, a rate and a domain that make sense', () => {
    const { traces, core } = new TestHost();
    expect(traces.profile(100, 1)).toBe(-Errno.EINVAL);
    traces.setSize(1);
    expect([traces.profile(10_001, 1), traces.profile(100, DOMID.SELF)]).toEqual([-Errno.EINVAL, -Errno.EINVAL]);
    expect(traces.profile(10_000, DOMID.IDLE)).toBe(0);
    expect([core.header.profilePeriodNs, core.tracer.profiling]).toEqual([100_000n, true]);
    traces.profile(0, 0);
    expect(core.tracer.profiling).toBe(false);
  });
});
