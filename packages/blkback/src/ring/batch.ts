/** A batch for the hypervisor that is put together in parts, whose results are asked for by part. */
import type { MemoryOp, MemoryResult } from '@xenhost/privcmd';

/** Where a part's steps stand in its batch. */
export interface Part {
  readonly from: number;
  readonly to: number;
}

export class Batch {
  readonly steps: MemoryOp[] = [];

  add(steps: readonly MemoryOp[]): Part {
    const from = this.steps.length;
    for (const step of steps) this.steps.push(step);
    return { from, to: this.steps.length };
  }
}

export const resultsOf = (results: readonly MemoryResult[], { from, to }: Part): readonly MemoryResult[] =>
  results.slice(from, to);

export const allDone = (results: readonly MemoryResult[]): boolean => results.every(({ status }) => status === 0);
