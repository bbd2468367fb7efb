/**
 * Counters of vifs as files, laid out as Linux's /sys/class/net has them: `<root>/vif1.0/statistics/rx_bytes`. For tools of
 * Domain-0 that would read them there. A daemon that starts anew goes on from the numbers it finds.
 */
import { mkdir, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { VifCounters } from './vif/counters.ts';

const FILES: readonly (readonly [keyof VifCounters, string])[] = [
  ['rxBytes', 'rx_bytes'],
  ['rxPackets', 'rx_packets'],
  ['rxDropped', 'rx_dropped'],
  ['rxErrors', 'rx_errors'],
  ['txBytes', 'tx_bytes'],
  ['txPackets', 'tx_packets'],
  ['txDropped', 'tx_dropped'],
  ['txErrors', 'tx_errors'],
];

/** What is told of one vif. */
export interface VifStatistics {
  readonly id: string;
  readonly counters: VifCounters;
}

export class StatisticsFiles {
  readonly #root: string;
  /** What the files of each vif hold. */
  readonly #written = new Map<string, Map<string, number>>();
  /** One after the other. */
  #work: Promise<void> = Promise.resolve();

  constructor(root: string) {
    this.#root = root;
  }

  /** Adds what an earlier daemon has counted, and makes the files. */
  begin({ id, counters }: VifStatistics): Promise<void> {
    return this.#next(async () => {
      const directory = join(this.#root, id, 'statistics');
      for (const [key, file] of FILES) {
        const before = Number(await readFile(join(directory, file), 'latin1').catch(() => '0'));
        if (Number.isSafeInteger(before) && before > 0) counters[key] += before;
      }
      await mkdir(directory, { recursive: true });
      this.#written.set(id, new Map());
      await this.#write({ id, counters });
    });
  }

  /** Writes what has changed. */
  update(vifs: Iterable<VifStatistics>): Promise<void> {
    const all = [...vifs];
    return this.#next(async () => {
      for (const vif of all) await this.#write(vif);
    });
  }

  /** The vif is gone. */
  end(id: string): Promise<void> {
    return this.#next(async () => {
      this.#written.delete(id);
      await rm(join(this.#root, id), { recursive: true, force: true });
    });
  }

  /** Removes what is told of vifs that are not among `ids`: they went while nobody looked. */
  keepOnly(ids: ReadonlySet<string>): Promise<void> {
    return this.#next(async () => {
      for (const name of await readdir(this.#root).catch(() => [])) {
        if (/^vif\d+\.\d+$/.test(name) && !ids.has(name)) {
          await rm(join(this.#root, name), { recursive: true, force: true });
        }
      }
    });
  }

  async #write({ id, counters }: VifStatistics): Promise<void> {
    const written = this.#written.get(id);
    if (!written) return;
    const directory = join(this.#root, id, 'statistics');
    for (const [key, file] of FILES) {
      const value = counters[key];
      if (written.get(file) === value) continue;
      // A reader sees the old number or the new one.
      const path = join(directory, file);
      await writeFile(`${path}.new`, `${value}\n`);
      await rename(`${path}.new`, path);
      written.set(file, value);
    }
  }

  #next(body: () => Promise<void>): Promise<void> {
    const done = this.#work.then(body);
    this.#work = done.catch(() => undefined);
    return done;
  }
}
