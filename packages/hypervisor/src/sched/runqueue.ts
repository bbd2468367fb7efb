/**
 * Run queues: one per pCPU, a list of vCPU records in machine memory ordered by priority; within one, who has more credit
 * left goes first, and among the boosted and those alike who came first. A vCPU stands in the queue of its `processor`,
 * and in none while it runs.
 */
import { PAGE_SIZE } from '@xenhost/xen-abi';
import type { View } from '@xenhost/base';
import type { DomainTable } from '../domain/table.ts';
import type { Core } from '../state/core.ts';
import { PCPU_RECORD_SIZE } from '../state/memory-map.ts';
import { PcpuLayout, SchedPriority } from '../state/records.ts';
import type { VcpuRef } from '../state/refs.ts';

export type PcpuView = View<(typeof PcpuLayout)['fields']>;

export const pcpuAddress = (core: Core, pcpu: number): number => core.map.pcpus * PAGE_SIZE + pcpu * PCPU_RECORD_SIZE;

/** Views of all pCPU records of the host. */
export function pcpuViews(core: Core): readonly PcpuView[] {
  return Array.from({ length: core.map.nrPcpus }, (_, i) => PcpuLayout.view(core.memory, pcpuAddress(core, i)));
}

/** True when `a`, be it the later one, is to run before `b`. */
export function goesBefore(a: VcpuRef, b: VcpuRef): boolean {
  if (a.v.priority !== b.v.priority) return a.v.priority > b.v.priority;
  return a.v.priority !== SchedPriority.boost && a.v.credit > b.v.credit;
}

export class RunQueues {
  readonly #pcpus: readonly PcpuView[];
  readonly #table: DomainTable;

  constructor(pcpus: readonly PcpuView[], table: DomainTable) {
    this.#pcpus = pcpus;
    this.#table = table;
  }

  head(pcpu: number): VcpuRef | undefined {
    const frame = this.#pcpu(pcpu).runqHead;
    return frame === 0 ? undefined : this.#table.vcpuAt(frame);
  }

  next(vcpu: VcpuRef): VcpuRef | undefined {
    return vcpu.v.runqNext === 0 ? undefined : this.#table.vcpuAt(vcpu.v.runqNext);
  }

  isEmpty(pcpu: number): boolean {
    return this.#pcpu(pcpu).runqHead === 0;
  }

  /** In its place; `yields`: behind all of its priority and one of a lower. */
  insert(vcpu: VcpuRef, yields = false): void {
    const queue = this.#pcpu(vcpu.v.processor);
    let previous: VcpuRef | undefined;
    let at = this.head(vcpu.v.processor);
    let yielding = yields;
    while (at && (!goesBefore(vcpu, at) || yielding)) {
      if (at.v.priority < vcpu.v.priority) yielding = false;
      previous = at;
      at = this.next(at);
    }
    vcpu.v.runqPrev = previous?.frame ?? 0;
    vcpu.v.runqNext = at?.frame ?? 0;
    if (previous) previous.v.runqNext = vcpu.frame;
    else queue.runqHead = vcpu.frame;
    if (at) at.v.runqPrev = vcpu.frame;
    else queue.runqTail = vcpu.frame;
    vcpu.v.onRunq = 1;
  }

  /** Puts the queue of a pCPU in order after priorities and credits have changed. */
  sort(pcpu: number): void {
    const waiting: VcpuRef[] = [];
    for (let at = this.head(pcpu); at; at = this.head(pcpu)) {
      waiting.push(at);
      this.remove(at);
    }
    for (const vcpu of waiting) this.insert(vcpu);
  }

  /** Nothing when it is in no queue. */
  remove(vcpu: VcpuRef): void {
    if (vcpu.v.onRunq === 0) return;
    const queue = this.#pcpu(vcpu.v.processor);
    const { runqNext, runqPrev } = vcpu.v;
    if (runqPrev) this.#table.vcpuAt(runqPrev).v.runqNext = runqNext;
    else queue.runqHead = runqNext;
    if (runqNext) this.#table.vcpuAt(runqNext).v.runqPrev = runqPrev;
    else queue.runqTail = runqPrev;
    vcpu.v.runqNext = 0;
    vcpu.v.runqPrev = 0;
    vcpu.v.onRunq = 0;
  }

  #pcpu(n: number): PcpuView {
    const view = this.#pcpus[n];
    if (!view) throw new RangeError(`pCPU ${n} of ${this.#pcpus.length}`);
    return view;
  }
}
