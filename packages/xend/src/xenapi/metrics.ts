/** What goes through a device: rates and sums of the counters that its backend keeps (Xen 4.4 `XendMonitor.py`). */
import { vbdCounters, vifCounters } from '@xenhost/daemon-kit';
import { connectionOf, isDisk, type Device } from './devices.ts';
import type { World } from './world.ts';

const SECTOR_BYTES = 512;
const KIB = 1024;

export interface Moved {
  /** KiB a second. */
  readonly read: number;
  readonly write: number;
  /** KiB in all. */
  readonly totalRead: number;
  readonly totalWrite: number;
}

export async function byteRates(world: World, device: Device): Promise<Moved> {
  const { read, write } = await bytes(world, device);
  const now = world.now().getTime();
  const rate = (what: string, value: number): number => world.samples.rate(`${what} ${device.config.uuid}`, value, now);
  return {
    read: rate('read', read / KIB),
    write: rate('write', write / KIB),
    totalRead: read / KIB,
    totalWrite: write / KIB,
  };
}

async function bytes(world: World, device: Device): Promise<{ readonly read: number; readonly write: number }> {
  const { sysfs } = world.manager.ports;
  const domid = device.vm.live?.domid;
  const connection = await connectionOf(world, device);
  if (sysfs === undefined || domid === undefined || !connection) return { read: 0, write: 0 };
  const { devid } = connection;
  if (isDisk(device.config)) {
    // blkback calls disks of every class so.
    const { rd_sect, wr_sect } = await vbdCounters(sysfs, { class: 'vbd', domid, devid });
    return { read: rd_sect * SECTOR_BYTES, write: wr_sect * SECTOR_BYTES };
  }
  // What the guest sends, Domain-0 receives.
  const { rx_bytes, tx_bytes } = await vifCounters(sysfs, { domid, devid });
  return { read: tx_bytes, write: rx_bytes };
}
