/**
 * Counters of vifs as files, laid out as Linux's /sys/class/net has them: `<root>/vif1.0/statistics/rx_bytes`. For tools of
 * Domain-0 that would read them there. A daemon that starts anew goes on from the numbers it finds.
 */
import { CounterFiles } from '@xenhost/daemon-kit';
import type { VifCounters } from './vif/counters.ts';

const FILE_OF = {
  rxBytes: 'rx_bytes',
  rxPackets: 'rx_packets',
  rxDropped: 'rx_dropped',
  rxErrors: 'rx_errors',
  txBytes: 'tx_bytes',
  txPackets: 'tx_packets',
  txDropped: 'tx_dropped',
  txErrors: 'tx_errors',
} as const satisfies Readonly<Record<keyof VifCounters, string>>;
const KEYS = Object.keys(FILE_OF) as (keyof VifCounters)[];
type FileName = (typeof FILE_OF)[keyof VifCounters];
const OURS = /^vif\d+\.\d+$/;

const byFile = (counters: VifCounters): Record<FileName, number> =>
  Object.fromEntries(KEYS.map((key) => [FILE_OF[key], counters[key]])) as Record<FileName, number>;

/** What is told of one vif. */
export interface VifStatistics {
  readonly id: string;
  readonly counters: VifCounters;
}

export class StatisticsFiles {
  readonly #files: CounterFiles<FileName>;
  readonly #begun = new Set<string>();
  /** One after the other. */
  #work: Promise<void> = Promise.resolve();

  constructor(root: string) {
    this.#files = new CounterFiles(root);
  }

  /** Adds what an earlier daemon has counted, and makes the files. */
  begin({ id, counters }: VifStatistics): Promise<void> {
    return this.#next(async () => {
      const before = await this.#files.read(id, Object.values(FILE_OF));
      for (const key of KEYS) {
        const found = before[FILE_OF[key]];
        if (Number.isSafeInteger(found)) counters[key] += found;
      }
      this.#begun.add(id);
      await this.#files.write(id, byFile(counters));
    });
  }

  /** Writes what has changed. */
  update(vifs: Iterable<VifStatistics>): Promise<void> {
    const all = [...vifs];
    return this.#next(async () => {
      for (const { id, counters } of all) if (this.#begun.has(id)) await this.#files.write(id, byFile(counters));
    });
  }

  /** The vif is gone. */
  end(id: string): Promise<void> {
    return this.#next(async () => {
      this.#begun.delete(id);
      await this.#files.remove(id);
    });
  }

  /** Removes what is told of vifs that are not among `ids`: they went while nobody looked. */
  keepOnly(ids: ReadonlySet<string>): Promise<void> {
    return this.#next(() => this.#files.keepOnly(OURS, ids));
  }

  #next(body: () => Promise<void>): Promise<void> {
    const done = this.#work.then(body);
    this.#work = done.catch(() => undefined);
    return done;
  }
}
