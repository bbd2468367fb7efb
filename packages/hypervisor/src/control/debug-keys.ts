/** `xm debug-keys`: what Xen prints to its log when asked. */
import { DomainFlag } from '../state/records.ts';
import { vcpuLine } from '../domain/crash-report.ts';
import type { ControlModules } from './modules.ts';

const KEYS: Readonly<Record<string, { readonly help: string; readonly run: (m: ControlModules) => void }>> = {
  h: {
    help: 'show this message',
    run: (m) => {
      for (const [key, { help }] of Object.entries(KEYS))
        m.console.log(` key '${key}' (ascii '${ascii(key)}') => ${help}`);
    },
  },
  m: {
    help: 'memory info',
    run: (m) => {
      const { totalFrames, freeFrames } = m.memory.heapInfo();
      m.console.log(`Physical memory information: heap ${totalFrames} frames, ${freeFrames} free`);
    },
  },
  q: {
    help: 'dump domain (and guest debug) info',
    run: (m) => {
      m.console.log(`NOW=${m.core.systemTimeNs() / 1_000_000n} ms`);
      m.table.forEach((domain) => {
        const { v } = domain;
        const flags = Object.entries(DomainFlag).flatMap(([name, bit]) => (v.flags & bit ? [name] : []));
        m.console.log(`General information for domain ${domain.domid}:`);
        m.console.log(
          `    flags={${flags.join(' ')}} nr_pages=${v.totalPages} max_pages=${v.maxPages} ` +
            `pause_count=${v.pauseCount} vcpus=${v.nrVcpus} ports=${v.eventPorts}`,
        );
        m.table.forEachVcpu(domain, (vcpu) => {
          m.console.log(`    ${vcpuLine(m.core.memory, vcpu)}`);
        });
        return true;
      });
    },
  },
  r: {
    help: 'dump run queues',
    run: (m) => {
      m.pcpus.forEach((pcpu, n) => {
        const running = pcpu.running === 0 ? 'idle' : name(m, pcpu.running);
        const waiting: string[] = [];
        for (let at = m.scheduler.queues.head(n); at; at = m.scheduler.queues.next(at)) waiting.push(name(m, at.frame));
        m.console.log(`CPU[${String(n).padStart(2, '0')}] run: ${running} runq: ${waiting.join(' ') || 'empty'}`);
        m.console.log(`        next timer: ${pcpu.nextTimerNs / 1_000_000n} ms`);
      });
    },
  },
};

const ascii = (key: string): string => key.charCodeAt(0).toString(16).padStart(2, '0');

function name(m: ControlModules, frame: number): string {
  const vcpu = m.table.vcpuAt(frame);
  return `d${vcpu.domid}v${vcpu.vcpuId} (pri=${vcpu.v.priority} credit=${vcpu.v.credit})`;
}

/** Unknown keys are ignored, as Xen does. */
export function debugKey(m: ControlModules, key: string): void {
  const entry = Object.hasOwn(KEYS, key) ? KEYS[key] : undefined;
  if (!entry) return;
  m.console.log(`'${key}' pressed -> ${entry.help}`);
  entry.run(m);
}
