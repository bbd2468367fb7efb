/**
 * Statistics of block devices as files, one number each, where Linux has them in sysfs:
 * `<root>/vbd-DOMID-DEVICE/statistics/rd_req`. For tools that read them there (xm top, xentop).
 */
import { CounterFiles } from '@xenhost/daemon-kit';
import type { Statistics } from './ring/disk.ts';

/** Whose statistics they are. */
export interface Counted {
  readonly options: { readonly domid: number; readonly deviceId: number };
  readonly statistics: Statistics;
}

const nameOf = ({ options }: Counted): string => `vbd-${options.domid}-${options.deviceId}`;
const OURS = /^vbd-\d+-\d+$/;

export class StatisticsFiles {
  readonly #files: CounterFiles<keyof Statistics>;

  constructor(root: string) {
    this.#files = new CounterFiles(root);
  }

  /** Writes what changed since the last call, and removes what belongs to no device. Not to be called again before it resolves. */
  async update(devices: readonly Counted[]): Promise<void> {
    const names = new Set(devices.map(nameOf));
    for (const name of this.#files.devices) if (!names.has(name)) await this.#files.remove(name);
    for (const device of devices) await this.#files.write(nameOf(device), { ...device.statistics });
  }

  /** Removes what an earlier process left of devices that are no more. */
  sweep(devices: readonly Counted[]): Promise<void> {
    return this.#files.keepOnly(OURS, new Set(devices.map(nameOf)));
  }
}
