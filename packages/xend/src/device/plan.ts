/**
 * What each class of device puts into xenstore, from its configuration alone: nothing here reads or writes the store.
 * Answers to Xen 4.4 `server/{netif,blkif,vfbif,BlktapController}.py`.
 */
import { randomBytes } from 'node:crypto';
import { posix } from 'node:path';
import { atomText, type Sxp } from '@xenhost/sxp';
import type { DeviceConfig } from '../config/types.ts';
import { XendError } from '../errors.ts';
import { DEFAULT_SETTINGS } from '../options/settings.ts';
import { blockDeviceNumber } from './blkdev.ts';
import { rateCredit } from './rate.ts';

type Nodes = Readonly<Record<string, string>>;

export interface DevicePlan {
  /** The device's number, or `allocate` to take the domain's next one of its class. */
  readonly devid: number | 'allocate';
  /** Class in the backend's path. */
  readonly backendClass: string;
  /** Class in the frontend's path: tap disks look like vbds to the guest. */
  readonly frontendClass: string;
  readonly back: Nodes;
  readonly front: Nodes;
  /** Whether both sides have a `handle` with the device's number. */
  readonly handle: { readonly back: boolean; readonly front: boolean };
  /** Whether creation waits for the backend's hotplug-status. */
  readonly waits: boolean;
  /** How the device is called in messages: its name where it has one. */
  readonly label?: string;
}

/** Where the scripts of vifs are on a Xen host; the name alone matters to our backend. */
const SCRIPT_DIRECTORY = '/etc/xen/scripts';
const DEFAULT_VIF_SCRIPT = DEFAULT_SETTINGS.vifScript;
const NO_HANDLE = { back: false, front: false };

/** `vifScript` is that of vifs without one of their own. Throws XendError when the options make no device. */
export function planDevice(device: DeviceConfig, vifScript = DEFAULT_VIF_SCRIPT): DevicePlan {
  switch (device.class) {
    case 'vif':
      return planVif(device, vifScript);
    case 'vbd':
    case 'tap':
    case 'tap2':
      return planDisk(device);
    case 'vkbd':
      return { ...plain('vkbd'), back: { uuid: device.uuid }, front: {} };
    case 'vif2':
      return planVif2(device);
    case 'vusb':
      return planUsbController(device);
    case 'ioports': {
      portRange(device);
      return {
        ...plain('ioports'),
        devid: 'allocate',
        back: { ...pick(device, ['from', 'to']), uuid: device.uuid },
        front: {},
      };
    }
    case 'irq':
      throw new XendError(`irq: Failed to map irq ${option(device, 'irq')}`);
    case 'pci':
      throw new XendError(`pci: failed to locate device and parse its resources - ${absentPciDevice(device)}`);
    case 'vscsi':
      throw new XendError('vscsi: no SCSI device of this host can be given to guests');
    case 'vfb':
      return { ...plain('vfb'), back: { ...pick(device, VFB_KEYS), uuid: device.uuid }, front: {} };
    default:
      throw new XendError(`Device type ${device.class} is not supported in this version`);
  }
}

const plain = (name: string) => ({
  devid: 0,
  backendClass: name,
  frontendClass: name,
  handle: NO_HANDLE,
  waits: false,
});

const VFB_KEYS = [
  'type', 'vncdisplay', 'vnclisten', 'vncpasswd', 'vncunused', 'display', 'xauthority', 'keymap', 'vnc', 'sdl',
  'location', 'protocol', 'opengl',
]; // prettier-ignore

const option = (device: DeviceConfig, key: string): string => atomText(device.options.get(key)) ?? '';

function pick(device: DeviceConfig, keys: readonly string[]): Record<string, string> {
  const nodes: Record<string, string> = {};
  for (const key of keys) {
    const value = option(device, key);
    if (value !== '') nodes[key] = value;
  }
  return nodes;
}

const MAC = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i;

function planVif(device: DeviceConfig, defaultScript: string): DevicePlan {
  const mac = option(device, 'mac');
  if (!MAC.test(mac)) {
    throw new XendError('Cannot create a new virtual network interface - MAC address is not valid!');
  }
  const emulated = option(device, 'type') === 'ioemu';
  const rate = option(device, 'rate');
  return {
    devid: 'allocate',
    backendClass: 'vif',
    frontendClass: 'vif',
    back: {
      ...pick(device, ['type', 'ip', 'bridge', 'vifname', 'model', 'accel']),
      script: posix.join(SCRIPT_DIRECTORY, option(device, 'script') || defaultScript),
      mac,
      ...(rate === '' ? {} : { rate: rateCredit(rate) }),
      uuid: device.uuid,
    },
    front: emulated ? {} : { mac },
    handle: { back: true, front: !emulated },
    waits: true,
  };
}

/** Netchannel2 (`netif2.py`). */
function planVif2(device: DeviceConfig): DevicePlan {
  const backMac = option(device, 'back_mac') || (option(device, 'bridge') ? 'fe:ff:ff:ff:ff:ff' : randomMac());
  const frontMac = option(device, 'front_mac') || randomMac();
  const frontTrust = option(device, 'trusted') || '0';
  const backTrust = option(device, 'back_trusted') || '1';
  return {
    devid: 'allocate',
    backendClass: 'vif2',
    frontendClass: 'vif2',
    back: {
      mac: backMac,
      'remote-mac': frontMac,
      'local-trusted': backTrust,
      'remote-trusted': frontTrust,
      'filter-mac': option(device, 'filter_mac') || (frontTrust === '0' ? '1' : '0'),
      'max-bypasses': option(device, 'max_bypasses') || '5',
      ...pick(device, ['bridge', 'pdev']),
      uuid: device.uuid,
    },
    front: {
      mac: frontMac,
      'remote-mac': backMac,
      'local-trusted': frontTrust,
      'remote-trusted': backTrust,
      'filter-mac': option(device, 'front_filter_mac') || (backTrust === '0' ? '1' : '0'),
    },
    handle: { back: true, front: false },
    waits: true,
  };
}

const MAX_USB_PORTS = 31;

/** A USB controller of empty ports: what is in them would be the host's (`vusbif.py`). */
function planUsbController(device: DeviceConfig): DevicePlan {
  const ports = Number(option(device, 'num-ports') || '0');
  if (!Number.isInteger(ports) || ports < 1 || ports > MAX_USB_PORTS) {
    throw new XendError(`vusb: Invalid config setting num-ports: ${option(device, 'num-ports')}`);
  }
  const back: Record<string, string> = { 'usb-ver': option(device, 'usb-ver'), 'num-ports': String(ports) };
  for (let port = 1; port <= ports; port += 1) back[`port/${port}`] = option(device, `port-${port}`);
  return { ...plain('vusb'), devid: 'allocate', back: { ...back, uuid: device.uuid }, front: {} };
}

const MAX_IO_PORT = 0xffff;

/** Throws XendError. */
export function portRange(device: DeviceConfig): { readonly from: number; readonly to: number } {
  const port = (key: string): number => {
    const text = option(device, key);
    if (!/^(?:0x[0-9a-f]{1,4}|\d{1,5})$/i.test(text))
      throw new XendError(`ioports: Invalid config setting ${key}: ${text}`);
    return Number(text);
  };
  const [from, to] = [port('from'), port('to')];
  if (to < from || to > MAX_IO_PORT) throw new XendError(`ioports: Invalid i/o range: ${from} - ${to}`);
  return { from, to };
}

function absentPciDevice(device: DeviceConfig): string {
  const address = (key: string, digits: number): string =>
    (Number(option(device, key)) || 0).toString(16).padStart(digits, '0');
  return `PCI Device ${address('domain', 4)}:${address('bus', 2)}:${address('slot', 2)}.${address('func', 1)} Not Found`;
}

/** `dev` as in configs: `xvda`, `hdc:cdrom`, `ioemu:hda`. */
export function splitDiskName(text: string): { readonly dev: string; readonly type: string } {
  const [dev = '', type = 'disk'] = text.replace(/^ioemu:/, '').split(':');
  return { dev, type };
}

function planDisk(device: DeviceConfig): DevicePlan {
  const { dev, type } = splitDiskName(option(device, 'dev'));
  const uname = option(device, 'uname');
  const colon = uname.indexOf(':');
  if (colon < 0 && !(uname === '' && type === 'cdrom')) {
    throw new XendError('Block device must have physical details specified');
  }
  const kind = colon < 0 ? '' : uname.slice(0, colon);
  const params = colon < 0 ? '' : uname.slice(colon + 1);
  const expected = device.class === 'vbd' ? ['phy', 'file', ''] : [device.class];
  if (!expected.includes(kind)) throw new XendError(`Block device type "${kind}" is invalid.`);
  const mode = option(device, 'mode') || 'r';
  if (!['r', 'w', 'w!'].includes(mode)) throw new XendError('Invalid mode');
  const number = blockDeviceNumber(dev);
  if (number === undefined) throw new XendError(`Unable to find number for device (${dev})`);
  const protocol = option(device, 'protocol');
  const bootable = option(device, 'bootable');
  return {
    devid: number.number,
    backendClass: device.class,
    frontendClass: 'vbd',
    back: {
      dev,
      type: kind,
      params,
      mode,
      uuid: device.uuid,
      ...(bootable === '' ? {} : { bootable }),
    },
    front: { [number.key]: String(number.number), 'device-type': type, ...(protocol === '' ? {} : { protocol }) },
    handle: NO_HANDLE,
    waits: true,
    label: dev,
  };
}

/** A MAC address of Xen's own range. */
function randomMac(): string {
  const [a = 0, b = 0, c = 0] = randomBytes(3);
  return ['00', '16', '3e', ...[a & 0x7f, b, c].map((byte) => byte.toString(16).padStart(2, '0'))].join(':');
}

/**
 * Gives a device what it lacks and refuses what clashes with the machine's others: every vif has a MAC address, names and
 * addresses are unique, the first disk is the one to boot from.
 */
export function completeDevice(device: DeviceConfig, others: readonly DeviceConfig[]): DeviceConfig {
  const options = new Map<string, Sxp>(device.options);
  const completed: DeviceConfig = { ...device, options };
  if (device.class === 'vif') {
    if (option(device, 'mac') === '') options.set('mac', randomMac());
    const mac = option(completed, 'mac').toLowerCase();
    if (others.some((other) => other.class === 'vif' && option(other, 'mac').toLowerCase() === mac)) {
      throw new XendError(`The mac "${mac}" is already defined`);
    }
  } else if (isDisk(device)) {
    const dev = splitDiskName(option(device, 'dev')).dev;
    if (others.some((other) => isDisk(other) && splitDiskName(option(other, 'dev')).dev === dev)) {
      throw new XendError(`The device "${dev}" is already defined`);
    }
    if (!options.has('bootable')) options.set('bootable', others.some(isDisk) ? 0 : 1);
  }
  if (!options.has('backend')) options.set('backend', 0);
  planDevice(completed);
  return completed;
}

export const isDisk = (device: DeviceConfig): boolean => ['vbd', 'tap', 'tap2'].includes(device.class);
