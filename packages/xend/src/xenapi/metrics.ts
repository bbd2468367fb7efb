/**
 * What goes through a device. A backend publishes its counters in `statistics/` of its nodes, under the names that Linux's
 * backends have in sysfs; without them nothing is known to have moved.
 */
import { connectionOf, isDisk, type Device } from './devices.ts';
import type { World } from './world.ts';

const SECTOR_BYTES = 512;
const KIB = 1024;

interface Counters {
  readonly read: string;
  readonly write: string;
  readonly unit: number;
}

const DISK: Counters = { read: 'rd_sect', write: 'wr_sect', unit: SECTOR_BYTES };
/** What the guest sends, the backend receives. */
const NET: Counters = { read: 'tx_bytes', write: 'rx_bytes', unit: 1 };

export interface Moved {
  /** KiB a second. */
  readonly read: number;
  readonly write: number;
  /** KiB in all. */
  readonly totalRead: number;
  readonly totalWrite: number;
}

export async function byteRates(world: World, device: Device): Promise<Moved> {
  const connection = await connectionOf(world, device);
  const counters = isDisk(device.config) ? DISK : NET;
  const { store } = world.manager.ports;
  const total = async (name: string): Promise<number> => {
    const text = connection && (await store.tryRead(`${connection.backendPath}/statistics/${name}`));
    const count = Number(text ?? 0);
    return Number.isFinite(count) ? (count * counters.unit) / KIB : 0;
  };
  const [totalRead, totalWrite] = await Promise.all([total(counters.read), total(counters.write)]);
  const now = world.now().getTime();
  const rate = (what: string, value: number): number => world.samples.rate(`${what} ${device.config.uuid}`, value, now);
  return { read: rate('read', totalRead), write: rate('write', totalWrite), totalRead, totalWrite };
}
