/**
 * The counters that Domain-0's backends keep as files, as a Domain-0 kernel has them in /sys: of a disk
 * `bus/xen-backend/devices/vbd-1-51712/statistics/rd_sect`, of a vif `class/net/vif1.0/statistics/rx_bytes`. What is not
 * there counts as 0.
 */
import { readFile, readdir } from 'node:fs/promises';
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
