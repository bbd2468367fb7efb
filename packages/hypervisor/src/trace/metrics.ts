/**
 * What the hypervisor tells as metrics: the counters of every thread, and of each vCPU its exits and where its time went.
 * Runs on the control plane; reads what pCPUs write, without the lock and without stopping them.
 */
import type { MetricFamily, MetricSample } from '@xenhost/daemon-kit';
import { PAGE_SIZE, Runstate } from '@xenhost/xen-abi';
import type { DomainTable } from '../domain/table.ts';
import type { PcpuView } from '../sched/runqueue.ts';
import type { Core } from '../state/core.ts';
import type { VcpuRef } from '../state/refs.ts';
import { runstateTime } from '../vcpu/runstate.ts';
import { COUNTER_ROWS, placeOf, VCPU_EXITS } from './counter-table.ts';
import type { CounterRow } from './counter-table.ts';
import { vcpuExitsIndex } from './counters.ts';
import type { PerfCounters } from './perf.ts';

const S_PER_NS = 1e-9;

export interface MetricsModules {
  readonly core: Core;
  readonly table: DomainTable;
  readonly pcpus: readonly PcpuView[];
  readonly perf: PerfCounters;
  freeFrames(): number;
}

export function hypervisorMetrics(m: MetricsModules): MetricFamily[] {
  m.perf.publishOwn();
  return [
    ...COUNTER_ROWS.map(([key, row]) => counterFamily(m, placeOf(key), row)),
    ...hostFamilies(m),
    ...vcpuFamilies(m),
  ];
}

/** One sample a thread and element; elements that never counted are left out. */
function counterFamily({ core, perf }: MetricsModules, place: number, row: CounterRow): MetricFamily {
  const samples: MetricSample[] = [];
  const { nrPcpus } = core.map;
  for (let thread = 0; thread <= nrPcpus; thread++) {
    const pcpu = thread === nrPcpus ? 'control' : thread;
    const scaled = (i: number): number => perf.value(thread, place + i) * (row.scale ?? 1);
    if (!row.array) samples.push({ labels: { pcpu }, value: scaled(0) });
    else
      for (let i = 0; i < row.array.length; i++) {
        const name = row.array.nameOf(i);
        if (name !== undefined && scaled(i) !== 0)
          samples.push({ labels: { pcpu, [row.array.label]: name }, value: scaled(i) });
      }
  }
  return { name: row.metric, type: row.gauge ? 'gauge' : 'counter', help: row.help, samples };
}

function hostFamilies(m: MetricsModules): MetricFamily[] {
  const { core, pcpus } = m;
  const now = core.systemTimeNs();
  const idle = pcpus.map(({ idleNs, idleSinceNs }, pcpu) => ({
    labels: { pcpu },
    value: Number(idleNs + (idleSinceNs === 0n ? 0n : now - idleSinceNs)) * S_PER_NS,
  }));
  return [
    { name: 'xen_uptime_seconds', type: 'gauge', help: 'Time since the host started', samples: [{ value: Number(now) * S_PER_NS }] },
    { name: 'xen_pcpu_idle_seconds', type: 'counter', help: 'Time that a pCPU had nothing to run', samples: idle },
    { name: 'xen_free_memory_bytes', type: 'gauge', help: 'Machine memory of nobody', samples: [{ value: m.freeFrames() * PAGE_SIZE }] },
  ]; // prettier-ignore
}

function vcpuFamilies({ core, table }: MetricsModules): MetricFamily[] {
  const exits: MetricSample[] = [];
  const states: MetricSample[] = [];
  const schedules: MetricSample[] = [];
  const memory: MetricSample[] = [];
  const now = core.systemTimeNs();
  table.forEach((domain) => {
    memory.push({ labels: { domid: domain.domid }, value: domain.v.totalPages * PAGE_SIZE });
    table.forEachVcpu(domain, (vcpu: VcpuRef) => {
      const labels = { domid: vcpu.domid, vcpu: vcpu.vcpuId };
      const first = vcpuExitsIndex(vcpu);
      for (let i = 0; i < VCPU_EXITS.length; i++) {
        const cause = VCPU_EXITS.nameOf(i);
        const value = core.memory.f64[first + i] ?? 0;
        if (cause !== undefined && value !== 0) exits.push({ labels: { ...labels, cause }, value });
      }
      for (const [state, number] of Object.entries(Runstate)) {
        const ns = runstateTime(core.memory, vcpu, number, now);
        states.push({ labels: { ...labels, state }, value: Number(ns) * S_PER_NS });
      }
      schedules.push({ labels, value: vcpu.v.schedules });
    });
    return true;
  });
  return [
    { name: 'xen_domain_memory_bytes', type: 'gauge', help: 'Machine memory of a domain', samples: memory },
    { name: 'xen_vcpu_exits', type: 'counter', help: 'Returns of a vCPU from guest code', samples: exits },
    { name: 'xen_vcpu_state_seconds', type: 'counter', help: 'Time of a vCPU by run state', samples: states },
    { name: 'xen_vcpu_schedules', type: 'counter', help: 'Times that a vCPU was put to run', samples: schedules },
  ]; // prettier-ignore
}
