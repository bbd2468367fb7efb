/**
 * Devices that were told to go and whose guest still uses them. They are followed until they have gone, as the hotplug
 * scripts of a Xen host do: then their nodes and their configuration go too.
 */
import type { Vm } from '../domain/vm.ts';
import { messageOf } from '../errors.ts';
import type { XendPorts } from '../ports.ts';
import { backendGone, removeDevice, type ConnectedDevice } from './controller.ts';

export class Unplugs {
  readonly #ports: Pick<XendPorts, 'store' | 'log'>;
  /** By the backend's path. */
  readonly #following = new Map<string, AbortController>();

  constructor(ports: Pick<XendPorts, 'store' | 'log'>) {
    this.#ports = ports;
  }

  /** `forget` is called when the device has gone by itself; not when its domain has ended. */
  follow(vm: Vm, device: ConnectedDevice, forget: () => Promise<void>): void {
    this.stop(device);
    const abort = new AbortController();
    this.#following.set(device.backendPath, abort);
    const { store, log } = this.#ports;
    const live = vm.live;
    const work = async (): Promise<void> => {
      if (!(await backendGone(store, device, abort.signal))) return;
      await vm.lock.run(async () => {
        if (vm.live !== live || this.#following.get(device.backendPath) !== abort) return;
        this.stop(device);
        await removeDevice(vm, store, device);
        await forget();
        log.info('DevController', `${vm.name}: device ${device.devid} (${device.class}) has gone.`);
      });
    };
    work().catch((error: unknown) => {
      if (abort.signal.aborted) return;
      log.error('DevController', `${vm.name}: cannot follow device ${device.devid}: ${messageOf(error)}`, error);
    });
  }

  /** Whoever stops has removed the device himself. */
  stop(device: ConnectedDevice): void {
    this.#following.get(device.backendPath)?.abort();
    this.#following.delete(device.backendPath);
  }

  close(): void {
    for (const abort of this.#following.values()) abort.abort();
    this.#following.clear();
  }
}
