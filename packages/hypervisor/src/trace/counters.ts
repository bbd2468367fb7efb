/**
 * The counters of one thread: 64-bit floats in a frame of machine memory, so that the control plane reads those of every
 * pCPU without stopping it. Only their thread writes them; a count is exact up to 2^53.
 */
import type { EngineCounters } from '@xenhost/cpu';
import { PAGE_SIZE } from '@xenhost/xen-abi';
import type { HypervisorLock } from '../state/lock.ts';
import type { MachineMemory } from '../state/machine-memory.ts';
import type { MemoryMap } from '../state/memory-map.ts';
import { VcpuLayout } from '../state/records.ts';
import type { VcpuRef } from '../state/refs.ts';
import {
  COUNTER, ENGINE_COUNTERS, NR_EXCEPTIONS, NR_EXIT_REASONS, NR_HYPERCALLS, NR_VALUES, placeOf,
} from './counter-table.ts'; // prettier-ignore

const VALUES_PER_FRAME = PAGE_SIZE / 8;
if (NR_VALUES > VALUES_PER_FRAME) throw new Error(`${NR_VALUES} counters do not fit into a frame`);
const ENGINE_BASE = placeOf(ENGINE_COUNTERS[0] ?? '');
const VCPU_EXITS = VcpuLayout.offsets.exits;

/** Index in `memory.f64` of the values of a thread: a pCPU, or the control plane at `nrPcpus`. */
export const countersIndex = (map: MemoryMap, thread: number): number => (map.counters + thread) * VALUES_PER_FRAME;

/** Index in `memory.f64` of a vCPU's exits by reason. */
export const vcpuExitsIndex = (vcpu: { readonly address: number }): number => (vcpu.address + VCPU_EXITS) / 8;

export class Counters {
  /** What the guest asked for last, since its last exit; -1 for nothing. For the profiler. */
  lastHypercall = -1;
  /** Why the guest left last. */
  lastExit = 0;
  readonly #values: Float64Array;
  readonly #base: number;

  /** `pcpu` undefined: those of the control plane. */
  constructor(memory: MachineMemory, map: MemoryMap, pcpu: number | undefined) {
    this.#values = memory.f64;
    this.#base = countersIndex(map, pcpu ?? map.nrPcpus);
  }

  /** One more of `COUNTER.…`. */
  count(at: number): void {
    this.#values[this.#base + at]!++;
  }

  /** A vCPU left guest code. */
  exit(vcpu: VcpuRef, reason: number, vector: number): void {
    const values = this.#values;
    this.lastHypercall = -1;
    this.lastExit = reason;
    if (reason >= NR_EXIT_REASONS) return;
    values[this.#base + COUNTER.exits + reason]!++;
    values[vcpuExitsIndex(vcpu) + reason]!++;
    if (reason === EXCEPTION && vector < NR_EXCEPTIONS) values[this.#base + COUNTER.exceptions + vector]!++;
  }

  hypercall(number: number): void {
    this.lastHypercall = number;
    if (number < NR_HYPERCALLS) this.#values[this.#base + COUNTER.hypercalls + number]!++;
  }

  /** Makes visible what the engine and the lock have counted for themselves. */
  publish(lock: HypervisorLock, engine: EngineCounters | undefined): void {
    const values = this.#values;
    const base = this.#base;
    values[base + COUNTER.lockAcquired] = lock.acquired;
    values[base + COUNTER.lockContended] = lock.contended;
    values[base + COUNTER.lockSlept] = lock.slept;
    if (!engine) return;
    let at = base + ENGINE_BASE;
    for (const name of ENGINE_COUNTERS) values[at++] = engine[name];
  }
}

/** `ExitReason.exception`. */
const EXCEPTION = 2;
