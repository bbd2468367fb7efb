/**
 * The hypervisor lock: every hypercall, exit that touches shared state, scheduler decision and privcmd request runs with
 * it held, taken once by the outermost caller (pCPU loop or control plane), never by a subsystem. Guest code runs
 * without it. Not recursive. docs/RATIONALE.md says why one lock.
 */
import type { MachineMemory } from './machine-memory.ts';
import { spinFor } from './spin.ts';

const FREE = 0;
const HELD = 1;
const CONTENDED = 2;
/** It is held for microseconds: sleeping for it costs more than waiting, and each sleeper costs who releases it. */
const SPIN_NS = 50_000;

export class HypervisorLock {
  /** What this thread has seen of it: times taken, times it was not free, times slept for. */
  acquired = 0;
  contended = 0;
  slept = 0;
  readonly #words: Int32Array;
  readonly #index: number;

  constructor(memory: MachineMemory, byteOffset: number) {
    this.#words = memory.i32;
    this.#index = byteOffset >>> 2;
  }

  acquire(): void {
    this.acquired++;
    const words = this.#words;
    const index = this.#index;
    if (Atomics.compareExchange(words, index, FREE, HELD) === FREE) return;
    this.contended++;
    const taken = spinFor(
      SPIN_NS,
      () => Atomics.load(words, index) === FREE && Atomics.compareExchange(words, index, FREE, HELD) === FREE,
    );
    if (taken) return;
    this.slept++;
    while (Atomics.exchange(words, index, CONTENDED) !== FREE) Atomics.wait(words, index, CONTENDED);
  }

  /** Takes it when nobody has it. */
  tryAcquire(): boolean {
    if (Atomics.compareExchange(this.#words, this.#index, FREE, HELD) !== FREE) return false;
    this.acquired++;
    return true;
  }

  release(): void {
    if (Atomics.exchange(this.#words, this.#index, FREE) === CONTENDED) Atomics.notify(this.#words, this.#index, 1);
  }

  run<T>(body: () => T): T {
    this.acquire();
    try {
      return body();
    } finally {
      this.release();
    }
  }
}
