/**
 * The end of a domain's memory (Xen's `domain_relinquish_resources`): base tables and pins go, tables are released
 * from the top down, then the frames. Each call does a bounded part and may be made again in any state.
 */
import type { MachineMemory } from '../state/machine-memory.ts';
import type { DomainRef } from '../state/refs.ts';
import type { Progress } from './api.ts';
import { FrameFlag } from './frame.ts';
import type { FrameTable } from './frame.ts';
import type { Ownership } from './ownership.ts';
import { DomainWords } from './private.ts';
import type { PageTypes } from './types.ts';

/** Entries or frames dealt with in one call. */
const WORK_PER_CALL = 4096;
const Phase = { pins: 0, tables: 1, frames: 2, done: 3 } as const;

export interface RelinquishModules {
  readonly frames: FrameTable;
  readonly own: Ownership;
  readonly types: PageTypes;
  /** Drops base tables and descriptor frames of all vCPUs. */
  resetVcpus(domain: DomainRef): void;
}

export class Relinquisher {
  readonly #memory: MachineMemory;
  readonly #m: RelinquishModules;

  constructor(memory: MachineMemory, modules: RelinquishModules) {
    this.#memory = memory;
    this.#m = modules;
  }

  step(domain: DomainRef): Progress {
    const words = new DomainWords(this.#memory, domain);
    if (words.relinquishCursor === Phase.pins) {
      this.#m.resetVcpus(domain);
      this.#unpinAll(domain);
      words.relinquishCursor = Phase.tables;
    }
    if (words.relinquishCursor === Phase.tables) {
      let work = 0;
      const done = this.#m.types.preemptible(
        () => ++work > WORK_PER_CALL,
        () => this.#m.types.drain(domain),
      );
      if (!done) return 'continue';
      words.relinquishCursor = Phase.frames;
    }
    if (words.relinquishCursor === Phase.frames) {
      if (!this.#freeFrames(domain)) return 'continue';
      words.relinquishCursor = Phase.done;
    }
    return 'done';
  }

  #unpinAll(domain: DomainRef): void {
    this.#walk(domain, (mfn) => {
      if (this.#m.frames.has(mfn, FrameFlag.pinned)) {
        this.#m.frames.clear(mfn, FrameFlag.pinned);
        this.#m.types.putWithType(mfn);
      }
      this.#m.types.abandonPartial(mfn);
      return true;
    });
  }

  /** False when there is more to do. Frames that others refer to stay listed until they are let go. */
  #freeFrames(domain: DomainRef): boolean {
    let left = WORK_PER_CALL;
    return this.#walk(domain, (mfn) => {
      if (this.#m.own.dropAllocation(mfn)) left--;
      return left > 0;
    });
  }

  /** Visits the domain's frames, each held by a reference meanwhile; false when `visit` said so. */
  #walk(domain: DomainRef, visit: (mfn: number) => boolean): boolean {
    const { frames, own } = this.#m;
    let mfn = domain.v.pageListHead;
    if (mfn !== 0) own.getAgain(mfn);
    while (mfn !== 0) {
      const more = visit(mfn);
      const next = more ? frames.next(mfn) : 0;
      if (next !== 0) own.getAgain(next);
      own.put(mfn);
      if (!more) return false;
      mfn = next;
    }
    return true;
  }
}
