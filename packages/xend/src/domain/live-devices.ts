/**
 * The devices of a running machine as SXP, as Xen 4.4 puts them together from xenstore (`XendConfig.py` to_sxp and the
 * controllers' getDeviceConfiguration): what is written there follows from the configuration. Classes and keys stand in the order of
 * Python 2's dicts.
 */
import { dictOrder, stringHash, type Sxp, type SxpList } from '@xenhost/sxp';
import { deviceSxp } from '../config/sxp.ts';
import type { DeviceConfig } from '../config/types.ts';
import { isDisk, planDevice, type DevicePlan } from '../device/plan.ts';
import type { Live, Vm } from './vm.ts';

/** Device classes as `XendDevices.py` lists them. */
const CLASSES = [
  'vbd', 'vif', 'vif2', 'pci', 'ioports', 'irq', 'tap', 'tap2', 'vfb', 'vkbd', 'console', 'vscsi', 'vusb',
] as const; // prettier-ignore
const CLASS_ORDER = dictOrder(CLASSES, stringHash, CLASSES.length);

const VIF_KEYS = ['script', 'ip', 'bridge', 'mac', 'type', 'vifname', 'rate', 'uuid', 'model', 'accel'];
const VFB_KEYS = [
  'type', 'vncdisplay', 'vnclisten', 'vncpasswd', 'vncunused', 'display', 'xauthority', 'keymap', 'vnc', 'sdl', 'uuid',
  'location', 'protocol', 'opengl',
]; // prettier-ignore

/** Pairs as a dict has them into which they were put one after the other. */
function dict(pairs: readonly (readonly [string, Sxp | undefined])[]): Sxp[] {
  const values = new Map(pairs.filter(([, value]) => value !== undefined) as [string, Sxp][]);
  return dictOrder([...values.keys()], stringHash).map((key): Sxp => [key, values.get(key) ?? '']);
}

/** `(device (vif ...))` of each, the console's last of its class. */
export function liveDevices(vm: Vm, live: Live, consoleUuid: string, vifScript: string | undefined): SxpList[] {
  return CLASS_ORDER.flatMap((name): SxpList[] => {
    if (name === 'console') {
      if (live.consolePort === undefined) return [];
      const pairs = [['location', live.consolePort], ['uuid', consoleUuid], ['protocol', 'vt100']] as const; // prettier-ignore
      return [['device', ['console', ...dict(pairs)]]];
    }
    return vm.config.devices
      .filter((device) => device.class === name)
      .map((device): SxpList => ['device', liveDevice(device, live, vifScript) ?? deviceSxp(device)]);
  });
}

/** Undefined for what another tool has made and is no device to us. */
function liveDevice(device: DeviceConfig, live: Live, vifScript: string | undefined): SxpList | undefined {
  const backend = Number(device.options.get('backend') ?? 0) || 0;
  const picked = (from: Readonly<Record<string, string>>, keys: readonly string[]) =>
    keys.map((key): [string, string | undefined] => [key, from[key]]);
  if (device.class === 'vkbd') return ['vkbd', ['backend', backend]];
  if (!isDisk(device) && device.class !== 'vif' && device.class !== 'vfb') return undefined;
  let plan: DevicePlan;
  try {
    plan = planDevice(device, vifScript);
  } catch {
    return undefined;
  }
  const { back, front } = plan;
  if (device.class === 'vfb') return ['vfb', ...dict(picked(back, VFB_KEYS))];
  if (device.class === 'vif') return ['vif', ...dict([['backend', backend], ...picked(back, VIF_KEYS)])];
  const { dev = '', type = '', params = '', mode = '', bootable } = back;
  const pairs = dict([
    ['backend', backend],
    ['dev', `${dev}:${front['device-type'] ?? 'disk'}`],
    // Without a medium there is no name; the key has its place all the same.
    ['uname', type !== '' && params !== '' ? `${type}:${params}` : null],
    ['mode', mode],
    ['uuid', device.uuid],
    ['bootable', bootable === undefined ? undefined : Number(bootable)],
    ['protocol', front['protocol'] ?? live.protocol],
  ]).filter((pair) => (pair as SxpList)[1] !== null);
  return [device.class, ...pairs, ['VDI', device.options.get('VDI') ?? '']];
}
