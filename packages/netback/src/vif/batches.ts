/**
 * Steps of all vifs on their way to the hypervisor: what is asked for in one turn of the event loop goes in one batch, so that
 * a packet's way out of one ring and into another costs one round trip.
 */
import type { MemoryOp, MemoryResult, PrivcmdPort } from '@xenhost/privcmd';

interface Submission {
  readonly from: number;
  readonly count: number;
  readonly resolve: (results: readonly MemoryResult[]) => void;
  readonly reject: (error: unknown) => void;
}

export class Batches {
  readonly #privcmd: Pick<PrivcmdPort, 'memory'>;
  #ops: MemoryOp[] = [];
  #submissions: Submission[] = [];

  constructor(privcmd: Pick<PrivcmdPort, 'memory'>) {
    this.#privcmd = privcmd;
  }

  /** The results of these steps, in order; they follow all that was submitted before. Rejects when the link broke. */
  submit(ops: readonly MemoryOp[]): Promise<readonly MemoryResult[]> {
    return new Promise((resolve, reject) => {
      if (this.#submissions.length === 0) {
        // Behind the reactions to what has just arrived: they submit, too.
        queueMicrotask(() => {
          queueMicrotask(() => {
            this.#flush();
          });
        });
      }
      this.#submissions.push({ from: this.#ops.length, count: ops.length, resolve, reject });
      for (const op of ops) this.#ops.push(op);
    });
  }

  #flush(): void {
    const [ops, submissions] = [this.#ops, this.#submissions];
    this.#ops = [];
    this.#submissions = [];
    this.#privcmd.memory(ops).then(
      (results) => {
        for (const { from, count, resolve } of submissions) resolve(results.slice(from, from + count));
      },
      (error: unknown) => {
        for (const { reject } of submissions) reject(error);
      },
    );
  }
}
