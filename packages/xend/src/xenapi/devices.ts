/** A machine's devices as objects of the Xen-API: found by UUID, described, changed (Xen 4.4 `XendDomainInfo.py`, get_dev_*). */
import { atomText, isList, type Sxp } from '@xenhost/sxp';
import { blockDeviceNumber } from '../device/blkdev.ts';
import { connectedDevices, deviceSxprs, type ConnectedDevice } from '../device/controller.ts';
import { isDisk, splitDiskName } from '../device/plan.ts';
import type { DeviceConfig } from '../config/types.ts';
import * as operations from '../domain/operations.ts';
import type { Vm } from '../domain/vm.ts';
import type { World } from './world.ts';

export interface Device {
  readonly vm: Vm;
  readonly config: DeviceConfig;
}

export const isVif = (device: DeviceConfig): boolean => device.class === 'vif';
export { isDisk };

export const devicesOf = (world: World, wanted: (device: DeviceConfig) => boolean): Device[] =>
  world.manager.all().flatMap((vm) => vm.config.devices.filter(wanted).map((config) => ({ vm, config })));

export function findDevice(world: World, ref: string, wanted: (device: DeviceConfig) => boolean): Device | undefined {
  for (const vm of world.manager.all()) {
    const config = vm.config.devices.find((device) => device.uuid === ref && wanted(device));
    if (config) return { vm, config };
  }
  return undefined;
}

export const option = (device: DeviceConfig, key: string): string => atomText(device.options.get(key)) ?? '';

/** A disk's name, without `ioemu:` and `:cdrom`. */
export const diskName = (device: DeviceConfig): string => splitDiskName(option(device, 'dev')).dev;
export const isCd = (device: DeviceConfig): boolean => splitDiskName(option(device, 'dev')).type === 'cdrom';

/** A device of a running machine as it stands in xenstore. */
export async function connectionOf(world: World, { vm, config }: Device): Promise<ConnectedDevice | undefined> {
  if (!vm.live) return undefined;
  const { store } = world.manager.ports;
  const connected = await connectedDevices(vm, store, config.class);
  if (isDisk(config)) {
    const number = blockDeviceNumber(diskName(config))?.number;
    return connected.find(({ devid }) => devid === number);
  }
  for (const candidate of connected) {
    if ((await store.tryRead(`${candidate.backendPath}/uuid`)) === config.uuid) return candidate;
  }
  return undefined;
}

/** What the frontend of a device has written; empty while there is none. */
export async function runtimeProperties(world: World, device: Device): Promise<Record<string, string>> {
  const connection = await connectionOf(world, device);
  if (!connection) return {};
  const name = isDisk(device.config) ? 'vbd' : device.config.class;
  for (const row of await deviceSxprs(device.vm, world.manager.ports.store, name)) {
    if (!isList(row) || row[0] !== connection.devid || !isList(row[1])) continue;
    return Object.fromEntries(
      row[1].flatMap((pair): [string, string][] =>
        isList(pair) && typeof pair[0] === 'string' ? [[pair[0], atomText(pair[1]) ?? '']] : [],
      ),
    );
  }
  return {};
}

/** Changes options of a device's configuration; the running device keeps what it has. */
export async function setOptions(
  world: World,
  { vm, config }: Device,
  changes: Readonly<Record<string, Sxp>>,
): Promise<void> {
  await vm.lock.run(async () => {
    const options = new Map([...config.options, ...Object.entries(changes)]);
    const devices = vm.config.devices.map((known) => (known.uuid === config.uuid ? { ...known, options } : known));
    vm.config = { ...vm.config, devices };
    await world.manager.save(vm);
  });
}

/** Takes a device away, from the running machine too. */
export async function removeDevice(world: World, device: Device): Promise<void> {
  const { vm, config } = device;
  const connection = await connectionOf(world, device);
  if (connection) {
    await operations.destroyDevice(world.manager, vm, config.class, String(connection.devid), false);
  }
  await vm.lock.run(async () => {
    const devices = vm.config.devices.filter((known) => known.uuid !== config.uuid);
    if (devices.length === vm.config.devices.length) return;
    vm.config = { ...vm.config, devices };
    await world.manager.save(vm);
  });
}

const ETH = 'eth';

/** A vif's name in the guest by its place among the machine's. */
export const interfaceName = ({ vm, config }: Device): string =>
  `${ETH}${vm.config.devices.filter(isVif).findIndex(({ uuid }) => uuid === config.uuid)}`;
