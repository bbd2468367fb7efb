/** Consoles of machines: the PV console that every domain has, a framebuffer's VNC, and what clients have asked for. */
import { atomText } from '@xenhost/sxp';
import { consoleUuid } from '../domain/view.ts';
import type { Vm } from '../domain/vm.ts';
import type { JsonRecord } from './state.ts';
import { textIn } from './state.ts';
import type { World } from './world.ts';

export interface Console {
  readonly ref: string;
  readonly vm: Vm;
  /** vt100, rfb or rdp. */
  readonly protocol: string;
  readonly location: string;
}

export const CONSOLES = 'console';

export function consolesOf(world: World, vm: Vm): Console[] {
  const table = world.state.table(CONSOLES);
  const made = table.size === 0 ? [] : [...table].filter(([, record]) => record['VM'] === vm.uuid);
  const text = made.find(([, record]) => record['protocol'] === 'vt100');
  const port = vm.live?.consolePort;
  const consoles: Console[] = [];
  if (text || port !== undefined) {
    consoles.push({
      ref: text?.[0] ?? consoleUuid(vm.uuid),
      vm,
      protocol: 'vt100',
      location: port === undefined ? '' : String(port),
    });
  }
  for (const device of vm.config.devices) {
    if (device.class !== 'vfb') continue;
    const option = (key: string): string => atomText(device.options.get(key)) ?? '';
    // Where its device model listens, once that has said so.
    const location = vm.live ? option('location') : '';
    consoles.push({ ref: device.uuid, vm, protocol: 'rfb', location });
  }
  for (const [ref, record] of made) {
    const protocol = textIn(record, 'protocol');
    if (protocol === 'rdp') consoles.push({ ref, vm, protocol, location: '' });
  }
  return consoles;
}

export const consoleRecord = (world: World, ref: string): JsonRecord | undefined =>
  world.state.table(CONSOLES).get(ref);

/** Forgets what clients have asked for of a machine. */
export async function dropConsoles(world: World, vm: string): Promise<void> {
  for (const [ref, record] of [...world.state.table(CONSOLES)]) {
    if (record['VM'] === vm) await world.state.remove(CONSOLES, ref);
  }
}
