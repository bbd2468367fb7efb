/**
 * Numbers of devices in a saved machine's configuration, as option `devid` of those that xend numbers: the guest's frontends
 * look for their backends under the numbers they had. Xen 4.4 wrote the option too but numbered anew, so that a guest lost
 * the interfaces behind a gap (`netif.py`, allocateDeviceID).
 */
import { atomText } from '@xenhost/sxp';
import type { DeviceConfig, VmConfig } from '../config/types.ts';
import { connectedDevices } from '../device/controller.ts';
import type { Vm } from '../domain/vm.ts';
import type { Store } from '../ports.ts';

/** By the device's UUID. */
export type DeviceNumbers = ReadonlyMap<string, number>;

const OPTION = 'devid';
const NUMBER = /^\d{1,5}$/;

const isNumbered = (device: DeviceConfig): boolean => device.class === 'vif';

/** The configuration of a running machine with the numbers that its devices have now. */
export async function withNumbers(vm: Vm, store: Store): Promise<VmConfig> {
  const numbers = new Map<string | undefined, number>();
  for (const { devid, backendPath } of await connectedDevices(vm, store, 'vif')) {
    numbers.set(await store.tryRead(`${backendPath}/uuid`), devid);
  }
  return mapDevices(vm.config, (device) => {
    const number = numbers.get(device.uuid);
    return number === undefined ? device : { ...device, options: new Map([...device.options, [OPTION, number]]) };
  });
}

/** Numbers and the configuration without them: a machine that starts anew is numbered anew. */
export function takeNumbers(config: VmConfig): { readonly config: VmConfig; readonly numbers: DeviceNumbers } {
  const numbers = new Map<string, number>();
  const plain = mapDevices(config, (device) => {
    if (!device.options.has(OPTION)) return device;
    const text = atomText(device.options.get(OPTION)) ?? '';
    if (NUMBER.test(text)) numbers.set(device.uuid, Number(text));
    return { ...device, options: new Map([...device.options].filter(([key]) => key !== OPTION)) };
  });
  return { config: plain, numbers };
}

const mapDevices = (config: VmConfig, map: (device: DeviceConfig) => DeviceConfig): VmConfig => ({
  ...config,
  devices: config.devices.map((device) => (isNumbered(device) ? map(device) : device)),
});
