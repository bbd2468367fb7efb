import type { Engine } from '@xenhost/cpu';
import { pcpuViews } from '../sched/runqueue.ts';
import { PcpuLayout, PcpuRequest } from '../state/records.ts';
import { TestHost } from '../test-host.test-kit.ts';

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
