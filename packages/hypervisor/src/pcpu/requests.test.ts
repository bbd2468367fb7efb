import type { Engine } from '@xenhost/cpu';
import { pcpuViews } from '../sched/runqueue.ts';
import { PcpuLayout, PcpuRequest } from '../state/records.ts';
import { TestHost } from '../test-host.test-kit.ts';
import { PcpuRequests } from './requests.ts';

function engine() {
  const done: string[] = [];
  const fake = {
    flushAllTranslations: () => done.push('flush all'),
    invalidateCode: (frame: number) => done.push(`code ${frame}`),
    dropWriteTranslations: (frame: number) => done.push(`writes ${frame}`),
  } as unknown as Engine;
  return { fake, done };
}

test('a flush goes to the pCPUs that have a vCPU of the mask loaded', () => {
  const host = new TestHost({ nrPcpus: 2, pcpu: undefined });
  const domain = host.domain({ maxVcpus: 2 });
  const pcpus = pcpuViews(host.core);
  pcpus.forEach((pcpu, i) => {
    pcpu.current = host.vcpu(domain, i).frame;
  });
  host.requests.take(0);
  host.requests.take(1);
  host.requests.upperChanged(domain.domid);
  host.requests.flushVcpus(domain, 2, false);
  expect([host.requests.take(0), host.requests.take(1)]).toEqual([0, PcpuRequest.flushTlb]);
  host.requests.flushAll();
  expect([host.requests.take(0), host.requests.take(1)]).toEqual([
    PcpuRequest.flushTlbGlobal,
    PcpuRequest.flushTlbGlobal,
  ]);
});

test('a write to a code frame drops its code everywhere', () => {
  const host = new TestHost({ nrPcpus: 1, pcpu: undefined });
  const [pcpu] = pcpuViews(host.core);
  if (pcpu) pcpu.online = 1;
  const { fake, done } = engine();
  host.requests.frameChanged(77);
  expect(host.requests.peek(0)).toBe(0);
  // The bit that an engine's codeFrameAdded sets.
  host.core.memory.u8[host.core.map.codeFrames * 4096 + 9] = 1 << 5;
  expect(host.requests.isCodeFrame(77)).toBe(true);
  host.requests.frameChanged(77);
  host.requests.serve(fake, 0, host.requests.take(0));
  expect(done).toEqual(['code 77']);
});

test('a ring that ran over drops everything', () => {
  const host = new TestHost({ nrPcpus: 1, pcpu: undefined });
  const [pcpu] = pcpuViews(host.core);
  if (pcpu) pcpu.online = 1;
  const { fake, done } = engine();
  const frames = PcpuLayout.fields.dropFrames.length + 1;
  for (let frame = 0; frame < frames; frame++) {
    const at = host.core.map.codeFrames * 4096 + (frame >> 3);
    host.core.memory.u8[at] = (host.core.memory.u8[at] ?? 0) | (1 << (frame & 7));
    host.requests.frameChanged(frame);
  }
  host.requests.serve(fake, 0, host.requests.take(0));
  expect(done).toHaveLength(host.core.map.nrFrames);
});

test('stores to a frame that a pCPU is asked to drop already ask for nothing more', () => {
  const host = new TestHost({ nrPcpus: 2, pcpu: 1 });
  const pcpus = pcpuViews(host.core);
  for (const pcpu of pcpus) pcpu.online = 1;
  const { fake, done } = engine();
  const requests = new PcpuRequests({ ...host.core, engine: fake }, { pcpus, table: host.table });
  host.core.memory.u8[host.core.map.codeFrames * 4096 + 9] = (1 << 5) | (1 << 6);
  // A page is cleared word by word, and then another.
  for (let store = 0; store < 512; store++) requests.codeFrameWritten(77);
  for (let store = 0; store < 512; store++) requests.codeFrameWritten(78);
  requests.frameChanged(77);
  done.length = 0;
  requests.serve(fake, 0, requests.take(0));
  expect(done).toEqual(['code 77', 'code 78']);
  // It has begun: what is stored from now on is asked for anew.
  requests.codeFrameWritten(77);
  requests.serve(fake, 0, requests.take(0));
  expect(done).toEqual(['code 77', 'code 78', 'code 77']);
});

test('announcements of code that a pCPU has not looked at cost it translations, and no code', () => {
  const host = new TestHost({ nrPcpus: 2, pcpu: 1 });
  const pcpus = pcpuViews(host.core);
  for (const pcpu of pcpus) pcpu.online = 1;
  const { fake, done } = engine();
  const requests = new PcpuRequests({ ...host.core, engine: fake }, { pcpus, table: host.table });
  const announced = PcpuLayout.fields.dropFrames.length * 3;
  for (let frame = 0; frame < announced; frame++) requests.codeFrameAdded(frame);
  // Code of the other pCPU that was written meanwhile goes, and only that.
  host.core.memory.u8[host.core.map.codeFrames * 4096 + 9] = 1 << 5;
  requests.frameChanged(77);
  done.length = 0;
  requests.serve(fake, 0, requests.take(0));
  expect(done.filter((what) => what.startsWith('code'))).toEqual(['code 77']);
  expect(done.at(-1)).toBe('flush all');
});

describe('translations that agree with the tables are not flushed', () => {
  /** Two pCPUs with a vCPU of one domain each; `self` is the pCPU of this thread and its engine notes what it is told. */
  function two(self: number | undefined) {
    const host = new TestHost({ nrPcpus: 2, pcpu: self });
    const domain = host.domain({ maxVcpus: 2 });
    const vcpus = [host.vcpu(domain, 0), host.vcpu(domain, 1)] as const;
    const pcpus = pcpuViews(host.core);
    pcpus.forEach((pcpu, i) => {
      pcpu.current = host.vcpu(domain, i).frame;
    });
    const told: string[] = [];
    const fake = {
      flushTlb: () => told.push('flush vCPU'),
      flushAllTranslations: () => told.push('flush all'),
      dropMapping: (slot: number, frame: number) => told.push(`drop ${slot} ${frame}`),
      dropRoot: (frame: number) => told.push(`root ${frame}`),
    } as unknown as Engine;
    const core = { ...host.core, engine: self === undefined ? undefined : fake };
    const requests = new PcpuRequests(core, { pcpus, table: host.table });
    const asked = (): number[] => [requests.take(0), requests.take(1)];
    asked();
    return { host, domain, vcpus, requests, fake, told, asked };
  }

  test('a change of this pCPU is dropped here at once; the caller needs no flush, the other vCPU does', () => {
    const { requests, domain, vcpus, fake, told, asked } = two(0);
    requests.leafChanged(domain.domid, 5, 99);
    requests.rootReleased(domain.domid, 123);
    requests.flushCaller(vcpus[0], fake);
    expect(told).toEqual(['drop 5 99', 'root 123']);
    requests.flushVcpus(domain, 3, true);
    expect(asked()).toEqual([0, PcpuRequest.flushTlbGlobal]);
    expect(told).toHaveLength(2);
    // It has been done for that change.
    requests.flushVcpus(domain, 3, true);
    expect(asked()).toEqual([0, 0]);
  });

  test('a change of an upper table is dropped by nobody: the caller is flushed, once', () => {
    const { requests, domain, vcpus, fake, told } = two(0);
    requests.upperChanged(domain.domid);
    // The next change of a leaf does not make up for it.
    requests.leafChanged(domain.domid, 5, 99);
    requests.flushCaller(vcpus[0], fake);
    requests.flushCaller(vcpus[0], fake);
    expect(told).toEqual(['drop 5 99', 'flush vCPU']);
  });

  test('a change by another thread counts for all', () => {
    const { host, requests, domain, vcpus, fake, told } = two(0);
    const control = new PcpuRequests({ ...host.core, pcpu: undefined, engine: undefined }, { pcpus: pcpuViews(host.core), table: host.table }); // prettier-ignore
    requests.flushAll();
    told.length = 0;
    control.leafChanged(domain.domid, 5, 99);
    requests.flushAll();
    expect(told).toEqual(['flush all']);
    requests.flushAll();
    expect(told).toEqual(['flush all']);
    requests.flushCaller(vcpus[0], fake);
    expect(told).toEqual(['flush all', 'flush vCPU']);
  });

  test('before a frame changes hands this engine is flushed for changes it has not dropped, the others always', () => {
    const { requests, domain, told, asked } = two(0);
    requests.flushAll();
    told.length = 0;
    asked();
    requests.leafChanged(domain.domid, 5, 99);
    requests.flushAll();
    expect(told).toEqual(['drop 5 99']);
    expect(asked()).toEqual([0, PcpuRequest.flushTlbGlobal]);
    requests.upperChanged(domain.domid);
    requests.flushAll();
    expect(told).toEqual(['drop 5 99', 'flush all']);
  });

  test('a vCPU that is not loaded loses what engines keep of it', () => {
    const { host, requests, domain, vcpus } = two(0);
    pcpuViews(host.core).forEach((pcpu) => (pcpu.current = 0));
    for (const vcpu of vcpus) vcpu.v.translationsOn = 2;
    requests.flushVcpus(domain, 2, true);
    expect(vcpus[1].v.translationsOn).toBe(2);
    requests.leafChanged(domain.domid, 1, 2);
    requests.flushVcpus(domain, 2, true);
    expect(vcpus.map((vcpu) => vcpu.v.translationsOn)).toEqual([2, 0]);
  });
});
