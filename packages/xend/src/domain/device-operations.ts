/** What single calls do to a machine's devices (Xen 4.4 `XendDomainInfo.py`: device_create, device_configure, destroyDevice). */
import { atomText, tagOf, type Sxp, type SxpList } from '@xenhost/sxp';
import { parseDevice } from '../config/parse.ts';
import { deviceSxp } from '../config/sxp.ts';
import type { DeviceConfig } from '../config/types.ts';
import { blockDeviceNumber } from '../device/blkdev.ts';
import {
  backendGone,
  closeDevice,
  connectedDevices,
  createDevice,
  deviceSxprs,
  findDevice,
  removeDevice,
  timeLimit,
  waitForDevice,
  waitForDevices,
  type ConnectedDevice,
} from '../device/controller.ts';
import { completeDevice, isDisk, planDevice, splitDiskName } from '../device/plan.ts';
import { XendError } from '../errors.ts';
import { MAX_DEVICES } from '../limits.ts';
import type { DomainManager } from './manager.ts';
import { domainPath, type Vm } from './vm.ts';

export async function waitForVmDevices(manager: DomainManager, vm: Vm): Promise<void> {
  await waitForDevices(vm, manager.ports.store, manager.settings.deviceCreateTimeoutMs);
}

/**
 * Adds a device and, when the domain is there, plugs it in. Answers `[class, ['dom', D, 'id', N]]`. While the backend takes
 * its time others may change the machine, or end it.
 */
export async function addDevice(manager: DomainManager, vm: Vm, sxp: Sxp): Promise<SxpList> {
  const { store } = manager.ports;
  const added = await vm.lock.run(async () => {
    const device = completeDevice(parseDevice(sxp), vm.config.devices);
    if (vm.config.devices.length >= MAX_DEVICES) {
      throw new XendError(`too many devices: the limit is ${MAX_DEVICES}`);
    }
    const { live } = vm;
    const connected = live && (await createDevice(vm, live, device, manager.modules));
    await keep(manager, vm, [...vm.config.devices, device]);
    if (live) await manager.deviceModels.start(vm, live);
    return { device, live, connected };
  });
  const { device, live, connected } = added;
  if (!connected) return [device.class, ['dom', null, 'id', null]];
  try {
    await waitForDevice(store, connected, manager.settings.deviceCreateTimeoutMs);
  } catch (error) {
    await vm.lock.run(async () => {
      if (vm.live === live) await removeDevice(vm, store, connected);
      await forget(manager, vm, device.uuid);
    });
    throw error;
  }
  return [device.class, ['dom', live?.domid ?? null, 'id', connected.devid]];
}

const forget = (manager: DomainManager, vm: Vm, uuid: string): Promise<void> =>
  keep(manager, vm, vm.config.devices.filter((known) => known.uuid !== uuid)); // prettier-ignore

async function keep(manager: DomainManager, vm: Vm, devices: readonly DeviceConfig[]): Promise<void> {
  vm.config = { ...vm.config, devices };
  await manager.save(vm);
}

/**
 * Unplugs a device; `force` removes its nodes without waiting for the two ends. With `removeConfig` it leaves the
 * configuration too, and is waited for. A halted machine has only its configuration.
 */
export async function destroyDevice(
  manager: DomainManager,
  vm: Vm,
  deviceClass: string,
  ref: string,
  force: boolean,
  removeConfig = true,
): Promise<void> {
  const { store } = manager.ports;
  const closing = await vm.lock.run(async () => {
    if (!vm.live) {
      if (removeConfig) await forgetByRef(manager, vm, deviceClass, ref);
      return undefined;
    }
    const device = await findDevice(vm, store, deviceClass, ref);
    const uuid = (await store.tryRead(`${device.backendPath}/uuid`)) ?? configOf(vm, device)?.uuid;
    await closeDevice(store, device);
    if (!force) return { device, uuid, live: vm.live };
    manager.unplugs.stop(device);
    await removeDevice(vm, store, device);
    if (removeConfig && uuid !== undefined) await forget(manager, vm, uuid);
    return undefined;
  });
  if (!closing) return;
  const { device, uuid, live } = closing;
  const gone = async (): Promise<void> => {
    if (removeConfig && uuid !== undefined) await forget(manager, vm, uuid);
  };
  if (!removeConfig || !(await hasGone(manager, device))) {
    if (vm.live === live) manager.unplugs.follow(vm, device, gone);
    if (removeConfig) throw new XendError(`Device ${ref} (${deviceClass}) could not be disconnected. `);
    return;
  }
  await vm.lock.run(async () => {
    if (vm.live === live) {
      manager.unplugs.stop(device);
      await removeDevice(vm, store, device);
    }
    await gone();
  });
}

async function hasGone(manager: DomainManager, device: ConnectedDevice): Promise<boolean> {
  const limit = timeLimit(manager.settings.deviceDestroyTimeoutMs);
  try {
    return await backendGone(manager.ports.store, device, limit.signal);
  } finally {
    limit.cancel();
  }
}

async function forgetByRef(manager: DomainManager, vm: Vm, deviceClass: string, ref: string): Promise<void> {
  const uuid = configByRef(vm, deviceClass, ref)?.uuid;
  if (uuid === undefined) throw new XendError(`Device ${ref} is not defined`);
  await forget(manager, vm, uuid);
}

/** An earlier xend has told these to go and has not seen them gone. */
export async function followUnplugged(manager: DomainManager, vm: Vm): Promise<void> {
  const { store } = manager.ports;
  for (const device of await connectedDevices(vm, store)) {
    if ((await store.tryRead(`${device.backendPath}/online`)) !== '0') continue;
    const uuid = (await store.tryRead(`${device.backendPath}/uuid`)) ?? configOf(vm, device)?.uuid;
    manager.unplugs.follow(vm, device, async () => {
      if (uuid !== undefined) await forget(manager, vm, uuid);
    });
  }
}

/** Which configured device a connected one was made of, for classes whose backends hold no UUID. */
function configOf(vm: Vm, device: ConnectedDevice): DeviceConfig | undefined {
  const same = vm.config.devices.filter((known) => known.class === device.class);
  return same.length === 1 ? same[0] : undefined;
}

const numberOf = (name: string): number | undefined => blockDeviceNumber(splitDiskName(name).dev)?.number;

const diskName = (device: DeviceConfig): string => splitDiskName(atomText(device.options.get('dev')) ?? '').dev;

/** A halted machine's device: a disk by its name or number, others by their place in their class or MAC address. */
function configByRef(vm: Vm, deviceClass: string, ref: string): DeviceConfig | undefined {
  const word = ref.split('/').at(-1) ?? '';
  if (['vbd', 'tap', 'tap2'].includes(deviceClass)) {
    const number = numberOf(word);
    return vm.config.devices.find((device) => isDisk(device) && numberOf(diskName(device)) === number);
  }
  const devices = vm.config.devices.filter((device) => device.class === deviceClass);
  const mac = (device: DeviceConfig): string => (atomText(device.options.get('mac')) ?? '').toLowerCase();
  return /^\d{1,6}$/.test(word) ? devices[Number(word)] : devices.find((device) => mac(device) === ref.toLowerCase());
}

/** vbd, tap or tap2: which of them holds this disk. Nil for a disk that is not there, as in 4.4. */
export async function blockDeviceClass(manager: DomainManager, vm: Vm, ref: string): Promise<string | null> {
  const number = numberOf(ref.split('/').at(-1) ?? '');
  if (number === undefined) throw new XendError(`Unable to find number for device (${ref})`);
  if (!vm.live) return configByRef(vm, 'vbd', ref)?.class ?? null;
  const frontend = `${domainPath(vm.live.domid)}/device/vbd/${number}`;
  const devices = await connectedDevices(vm, manager.ports.store);
  return devices.find((device) => device.frontendPath === frontend)?.class ?? null;
}

/** Frontends as they stand in xenstore; of a machine without a domain, its configuration. */
export async function listDevices(manager: DomainManager, vm: Vm, deviceClass: string): Promise<SxpList> {
  // Nothing is passed through, so no machine has PCI devices.
  if (deviceClass === 'pci') return [];
  if (vm.live) return deviceSxprs(vm, manager.ports.store, deviceClass);
  const wanted = vm.config.devices.filter((device) =>
    deviceClass === 'vbd' ? isDisk(device) : device.class === deviceClass,
  );
  return wanted.map((device, index): Sxp => [
    isDisk(device) ? (numberOf(diskName(device)) ?? index) : index,
    deviceSxp(device),
  ]);
}

/** Changes the medium of a CD-ROM drive; nothing else of a device can be changed. Answers true. */
export async function configureDevice(
  manager: DomainManager,
  vm: Vm,
  sxp: Sxp,
  devid: string | undefined,
): Promise<boolean> {
  const deviceClass = tagOf(sxp) ?? '';
  if (['pci', 'vscsi', 'vusb'].includes(deviceClass)) {
    throw new XendError(`Device type ${deviceClass} is not supported on this host`);
  }
  if (!['vbd', 'tap', 'tap2'].includes(deviceClass))
    throw new XendError(`${deviceClass} devices may not be reconfigured`);
  const wanted = parseDevice(sxp);
  const name = devid ?? diskName(wanted);
  if (name === '') throw new XendError('Block device must have virtual details specified');
  await vm.lock.run(async () => {
    const known = configByRef(vm, deviceClass, name);
    if (!known) throw new XendError(`Device ${numberOf(name) ?? name} not connected`);
    const plan = planDevice({ ...wanted, class: known.class, options: withDefaults(wanted, known) });
    if (!isCdrom(known) || plan.front['device-type'] !== 'cdrom' || plan.back['mode'] !== 'r') {
      const asked = [...wanted.options].map(([key, value]) => `'${key}': '${atomText(value) ?? ''}'`).join(', ');
      throw new XendError(`Refusing to reconfigure device ${deviceClass}:${plan.devid} to {${asked}}`);
    }
    if (vm.live) await changeMedium(manager, vm, String(plan.devid), plan.back);
    const changed = { ...known, options: withDefaults(wanted, known) };
    await keep(manager, vm, vm.config.devices.map((device) => (device === known ? changed : device))); // prettier-ignore
  });
  return true;
}

function withDefaults(wanted: DeviceConfig, known: DeviceConfig): Map<string, Sxp> {
  const options = new Map([...known.options, ...wanted.options]);
  if (!wanted.options.has('uname')) options.delete('uname');
  if (!wanted.options.has('dev')) options.set('dev', known.options.get('dev') ?? '');
  options.delete('uuid');
  return options;
}

const isCdrom = (device: DeviceConfig): boolean =>
  splitDiskName(atomText(device.options.get('dev')) ?? '').type === 'cdrom' &&
  (atomText(device.options.get('mode')) ?? 'r') === 'r';

/** An empty medium first, then the new one: the backend sees both. */
async function changeMedium(
  manager: DomainManager,
  vm: Vm,
  devid: string,
  back: Readonly<Record<string, string>>,
): Promise<void> {
  const { store } = manager.ports;
  const devices = await connectedDevices(vm, store);
  const device = devices.find((known) => String(known.devid) === devid && known.frontendPath.includes('/device/vbd/'));
  if (!device) throw new XendError(`Device ${devid} not connected`);
  for (const params of ['', back['params'] ?? '']) {
    await store.transaction(async (t) => {
      await t.write(`${device.backendPath}/type`, back['type'] ?? '');
      await t.write(`${device.backendPath}/params`, params);
    });
  }
}

/** `xend.domain.usb_add` and `usb_del`: only an emulated PC has a USB controller of the host's devices. */
export function refuseUsb(vm: Vm, what: 'add' | 'del'): never {
  const enabled = vm.config.image.platform.get('usb');
  if (enabled === undefined || enabled === 0 || enabled === '') {
    throw new XendError("Can't add usb device to a guest with usb disabled in configure file");
  }
  if (vm.config.image.type !== 'hvm') {
    throw new XendError(`Can't ${what === 'add' ? 'add usb device' : 'del usb'} to a non-hvm guest`);
  }
  throw new XendError('Device type usb is not supported on this host');
}
