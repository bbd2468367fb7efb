/**
 * The counters that Domain-0's backends keep as files, as a Domain-0 kernel has them in /sys: of a disk
 * `bus/xen-backend/devices/vbd-1-51712/statistics/rd_sect`, of a vif `class/net/vif1.0/statistics/rx_bytes`. What is not
 * there counts as 0.
 */
import { mkdir, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

const VBD_COUNTERS = ['oo_req', 'rd_req', 'wr_req', 'f_req', 'ds_req', 'rd_sect', 'wr_sect'] as const;
const VIF_COUNTERS = [
  'rx_bytes', 'rx_packets', 'rx_errors', 'rx_dropped', 'tx_bytes', 'tx_packets', 'tx_errors', 'tx_dropped',
] as const; // prettier-ignore

export type VbdCounters = Readonly<Record<(typeof VBD_COUNTERS)[number], number>>;
/** As Domain-0 sees the interface: what the guest sends is received here. */
export type VifCounters = Readonly<Record<(typeof VIF_COUNTERS)[number], number>>;

/** A backend's device by its name in /sys. */
export interface BackendDevice {
  readonly domid: number;
  readonly devid: number;
}

export interface VbdDevice extends BackendDevice {
  /** Class of the backend: vbd, tap. */
  readonly class: string;
}

const VBD_FOLDER = join('bus', 'xen-backend', 'devices');
const VIF_FOLDER = join('class', 'net');

/** The disks that have counters, by domain and number. */
export async function listVbds(sysfs: string): Promise<VbdDevice[]> {
  const found = (await names(join(sysfs, VBD_FOLDER))).flatMap((name): VbdDevice[] => {
    const [, kind = '', domid, devid] = /^(vbd|tap2?)-(\d{1,5})-(\d{1,10})$/.exec(name) ?? [];
    return domid === undefined ? [] : [{ class: kind, domid: Number(domid), devid: Number(devid) }];
  });
  return found.sort(byNumber);
}

/** The vifs that have counters, by domain and number. */
export async function listVifs(sysfs: string): Promise<BackendDevice[]> {
  const found = (await names(join(sysfs, VIF_FOLDER))).flatMap((name): BackendDevice[] => {
    const [, domid, devid] = /^vif(\d{1,5})\.(\d{1,10})$/.exec(name) ?? [];
    return domid === undefined ? [] : [{ domid: Number(domid), devid: Number(devid) }];
  });
  return found.sort(byNumber);
}

export const vbdCounters = (sysfs: string, device: VbdDevice): Promise<VbdCounters> =>
  counters(join(sysfs, VBD_FOLDER, `${device.class}-${device.domid}-${device.devid}`), VBD_COUNTERS);

export const vifCounters = (sysfs: string, device: BackendDevice): Promise<VifCounters> =>
  counters(join(sysfs, VIF_FOLDER, `vif${device.domid}.${device.devid}`), VIF_COUNTERS);

const byNumber = (a: BackendDevice, b: BackendDevice): number => a.domid - b.domid || a.devid - b.devid;

const names = (directory: string): Promise<string[]> => readdir(directory).catch(() => []);

async function counters<Name extends string>(
  device: string,
  wanted: readonly Name[],
): Promise<Readonly<Record<Name, number>>> {
  const read = async (name: Name): Promise<[Name, number]> => {
    const text = await readFile(join(device, 'statistics', name), 'latin1').catch(() => '');
    return [name, /^\d{1,20}\s*$/.test(text) ? Number(text) : 0];
  };
  return Object.fromEntries(await Promise.all(wanted.map(read))) as Record<Name, number>;
}

/** The writing side: the counters of a backend's devices, one number a file, `<root>/<device>/statistics/<name>`. */
export class CounterFiles<Name extends string> {
  readonly #root: string;
  /** What the files hold, by device. */
  readonly #written = new Map<string, Readonly<Record<Name, number>>>();

  /** `root`: the folder with a folder for each device. */
  constructor(root: string) {
    this.#root = root;
  }

  /** Devices whose files were written here and not removed since. */
  get devices(): Iterable<string> {
    return [...this.#written.keys()];
  }

  /** What is there of a device, from an earlier process too. */
  read(device: string, wanted: readonly Name[]): Promise<Readonly<Record<Name, number>>> {
    return counters(join(this.#root, device), wanted);
  }

  /** Writes what changed since the last call. Not to be called again for the device before it resolves. */
  async write(device: string, now: Readonly<Record<Name, number>>): Promise<void> {
    const before = this.#written.get(device);
    const folder = join(this.#root, device, 'statistics');
    if (!before) await mkdir(folder, { recursive: true });
    for (const name of Object.keys(now) as Name[]) {
      if (before?.[name] === now[name]) continue;
      // A reader sees the number before or the one after, never half of one.
      const file = join(folder, name);
      await writeFile(`${file}.new`, `${now[name]}\n`);
      await rename(`${file}.new`, file);
    }
    this.#written.set(device, now);
  }

  async remove(device: string): Promise<void> {
    this.#written.delete(device);
    await rm(join(this.#root, device), { recursive: true, force: true });
  }

  /** Of the folders named like `pattern` removes those of no device: an earlier process left them. */
  async keepOnly(pattern: RegExp, devices: ReadonlySet<string>): Promise<void> {
    const stale = (await names(this.#root)).filter((name) => pattern.test(name) && !devices.has(name));
    await Promise.all(stale.map((name) => rm(join(this.#root, name), { recursive: true, force: true })));
  }
}
