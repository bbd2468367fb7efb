/**
 * The hypervisor lock: every hypercall, exit that touches shared state, scheduler decision and privcmd request runs with
 * it held, taken once by the outermost caller (pCPU loop or control plane), never by a subsystem. Guest code runs
 * without it. Not recursive. docs/RATIONALE.md says why one lock.
 */
import type { MachineMemory } from './machine-memory.ts';

const FREE = 0;
const HELD = 1;
const CONTENDED = 2;
const SPINS = 200;

export class HypervisorLock {
  readonly #words: Int32Array;
  readonly #index: number;

  constructor(memory: MachineMemory, byteOffset: number) {
    this.#words = memory.i32;
    this.#index = byteOffset >>> 2;
  }

  acquire(): void {
    for (let i = 0; i < SPINS; i++) if (Atomics.compareExchange(this.#words, this.#index, FREE, HELD) === FREE) return;
    while (Atomics.exchange(this.#words, this.#index, CONTENDED) !== FREE)
      Atomics.wait(this.#words, this.#index, CONTENDED);
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
