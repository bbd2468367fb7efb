/**
 * Statistics of block devices as files, one number each, where Linux has them in sysfs:
 * `<root>/vbd-DOMID-DEVICE/statistics/rd_req`. For tools that read them there (xm top, xentop).
 */
import { mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Statistics } from './ring/disk.ts';

/** Whose statistics they are. */
export interface Counted {
  readonly options: { readonly domid: number; readonly deviceId: number };
  readonly statistics: Statistics;
}

const nameOf = ({ options }: Counted): string => `vbd-${options.domid}-${options.deviceId}`;
const OURS = /^vbd-\d+-\d+$/;

export class StatisticsFiles {
  readonly #root: string;
  /** What the files hold, by device. */
  readonly #written = new Map<string, Statistics>();

  constructor(root: string) {
    this.#root = root;
  }

  /** Writes what changed since the last call, and removes what belongs to no device. Not to be called again before it resolves. */
  async update(devices: readonly Counted[]): Promise<void> {
    const names = new Set(devices.map(nameOf));
    for (const name of this.#written.keys()) {
      if (names.has(name)) continue;
      this.#written.delete(name);
      await rm(join(this.#root, name), { recursive: true, force: true });
    }
    for (const device of devices) await this.#write(nameOf(device), device.statistics);
  }

  /** Removes what an earlier process left of devices that are no more. */
  async sweep(devices: readonly Counted[]): Promise<void> {
    const names = new Set(devices.map(nameOf));
    const found = await readdir(this.#root).catch(() => []);
    const stale = found.filter((name) => OURS.test(name) && !names.has(name));
    await Promise.all(stale.map((name) => rm(join(this.#root, name), { recursive: true, force: true })));
  }

  async #write(name: string, statistics: Statistics): Promise<void> {
    const before = this.#written.get(name);
    const folder = join(this.#root, name, 'statistics');
    if (!before) await mkdir(folder, { recursive: true });
    const now = { ...statistics };
    for (const key of Object.keys(now) as (keyof Statistics)[]) {
      if (before?.[key] === now[key]) continue;
      // A reader sees the number before or the one after, never half of one.
      const file = join(folder, key);
      await writeFile(`${file}.new`, `${now[key]}\n`);
      await rename(`${file}.new`, file);
    }
    this.#written.set(name, now);
  }
}
