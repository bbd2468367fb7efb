/** Settings to the config SXP that xend gets: the keys in Xen 4.4's order, with its checks (`create.py`, make_config). */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { float, type Sxp } from '@xenhost/sxp';
import { CommandFailed } from '../errors.ts';
import type { World } from '../world.ts';
import type { Setting } from './options.ts';
import { xauthority } from './settings.ts';

type Settings = ReadonlyMap<string, Setting>;

/** Throws CommandFailed. */
export function makeConfig(settings: Settings, world: World): Sxp {
  const config: Sxp[] = ['vm'];
  const value = (name: string): Setting => settings.get(name) ?? null;
  const addIfSet = (name: string): void => {
    if (isTrue(value(name))) config.push([name, sxpOf(value(name))]);
  };
  for (const name of [
    'name', 'memory', 'maxmem', 'shadow_memory', 'restart', 'on_poweroff', 'tsc_mode', 'nomigrate', 'on_reboot', 'on_crash',
    'features', 'on_xend_start', 'on_xend_stop', 'target', 'cpuid', 'cpuid_check', 'machine_address_size',
    'suppress_spurious_page_faults', 'description',
  ]) addIfSet(name); // prettier-ignore
  addVcpus(config, value('vcpus'), value('maxvcpus'));
  for (const name of ['uuid', 'cpu', 'cpus', 'cpu_cap', 'cpu_weight']) {
    if (value(name) !== null) config.push([name, sxpOf(value(name))]);
  }
  if (isTrue(value('blkif'))) config.push(['backend', ['blkif']]);
  if (isTrue(value('netif'))) config.push(['backend', ['netif']]);
  addIfSet('localtime');
  addIfSet('oos');
  if (isTrue(value('pool'))) config.push(['pool_name', sxpOf(value('pool'))]);
  const image = makeImage(settings, world);
  if (isTrue(value('bootloader'))) {
    config.push(['bootloader', sxpOf(value('bootloader'))]);
    config.push(['bootloader_args', isTrue(value('bootargs')) ? sxpOf(value('bootargs')) : '-q']);
  }
  config.push(['image', image], ['s3_integrity', sxpOf(value('s3_integrity'))]);
  const devices = [
    ...disks(settings),
    ...ioports(settings),
    ...irqs(settings),
    ...vifs(settings),
    ...vfbs(settings, world),
  ];
  for (const name of ['pci', 'vscsi', 'vusb', 'vif2']) {
    if (strings(settings, name).length > 0)
      throw new CommandFailed(`${name} devices are not supported in this version`);
  }
  return [...config, ...devices.map((device): Sxp => ['device', device])];
}

function addVcpus(config: Sxp[], vcpus: Setting, maxvcpus: Setting): void {
  if (isTrue(maxvcpus)) {
    if (isTrue(vcpus)) config.push(['vcpu_avail', maskOf(Number(vcpus))]);
    config.push(['vcpus', sxpOf(maxvcpus)]);
  } else if (isTrue(vcpus)) {
    config.push(['vcpus', sxpOf(vcpus)]);
  }
}

/** A bit for each vCPU; as text where XML-RPC has no number for it. */
function maskOf(count: number): Sxp {
  const mask = (1n << BigInt(Math.max(0, Math.min(count, 4096)))) - 1n;
  return mask < 2n ** 31n ? Number(mask) : mask.toString();
}

/** HVM keys of the image, in order. */
const HVM_KEYS = [
  'acpi', 'apic', 'boot', 'cpuid', 'cpuid_check', 'device_model', 'display', 'fda', 'fdb', 'gfx_passthru', 'guest_os_type',
  'hap', 'hpet', 'isa', 'keymap', 'localtime', 'nestedhvm', 'nographic', 'opengl', 'oos', 'pae', 'pci', 'pci_msitranslate',
  'pci_power_mgmt', 'rtc_timeoffset', 'sdl', 'soundhw', 'stdvga', 'timer_mode', 'usb', 'usbdevice', 'vcpus', 'vnc',
  'vncconsole', 'vncdisplay', 'vnclisten', 'vncunused', 'viridian', 'vpt_align', 'xauthority', 'xen_extended_power_mgmt',
  'xen_platform_pci', 'memory_sharing', 'vncpasswd',
]; // prettier-ignore

function makeImage(settings: Settings, world: World): Sxp {
  const value = (name: string): Setting => settings.get(name) ?? null;
  const text = (name: string): string => textOf(value(name));
  const image: Sxp[] = [text('builder')];
  const add = (name: string): void => {
    if (isTrue(value(name))) image.push([name, sxpOf(value(name))]);
  };
  for (const name of ['kernel', 'ramdisk', 'loader']) {
    if (text(name) !== '') image.push([name, filePath(name, text(name), isTrue(value('bootloader')), world.cwd)]);
  }
  const ip = kernelIp(settings);
  if (ip !== '') image.push(['ip', ip]);
  if (text('root') !== '') image.push(['root', text('root').replace(/^root=/, '')]);
  for (const name of ['videoram', 'parallel', 'serial']) add(name);
  if (text('monitor_path') !== '') image.push(['monitor_path', text('monitor_path')], ['monitor', 1]);
  else add('monitor');
  const extra = kernelExtra(settings);
  if (extra !== '') image.push(['args', extra]);
  add('superpages');
  if (text('builder') === 'hvm') {
    for (const name of HVM_KEYS) if (value(name) !== null) image.push([name, sxpOf(value(name))]);
  }
  for (const name of ['vhpt', 'machine_address_size', 'suppress_spurious_page_faults']) add(name);
  for (const name of ['tsc_mode', 'nomigrate']) if (value(name) !== null) image.push([name, sxpOf(value(name))]);
  return image;
}

/** A path that exists, made absolute; `hvmloader` and a boot loader's files are looked for by xend. */
function filePath(name: string, path: string, byBootloader: boolean, cwd: string): string {
  if (byBootloader || path === 'hvmloader') return path;
  const absolute = resolve(cwd, path);
  if (!existsSync(absolute)) throw new CommandFailed(`Cannot find ${name} "${path}"`);
  return path.startsWith('/') ? path : absolute;
}

/** Stands where no NFS server is. */
const DUMMY_NFS_SERVER = '127.0.255.255';

function kernelIp(settings: Settings): string {
  const text = (name: string): string => textOf(settings.get(name) ?? '');
  if (text('ip') === '' && text('dhcp') === 'off') return '';
  const server = text('nfs_server') || DUMMY_NFS_SERVER;
  const fields = [
    text('ip'),
    server,
    text('gateway'),
    text('netmask'),
    text('hostname'),
    text('interface'),
    text('dhcp'),
  ];
  return fields.join(':').replace(/^ip=/, '');
}

function kernelExtra(settings: Settings): string {
  const text = (name: string): string => textOf(settings.get(name) ?? '');
  if (text('nfs_root') === '') return text('extra');
  if (text('nfs_server') === '') throw new CommandFailed('Must set nfs root and nfs server');
  return `nfsroot=${text('nfs_server')}:${text('nfs_root')} ${text('extra')}`;
}

// Devices

function disks(settings: Settings): Sxp[] {
  return strings(settings, 'disk').map((text): Sxp => {
    const [uname, dev, mode, backend, protocol, ...more] = text.split(',');
    if (uname === undefined || dev === undefined || mode === undefined || more.length > 0) {
      throw new CommandFailed(`Invalid disk specifier: ${text}`);
    }
    const deviceClass = uname.startsWith('tap2:') ? 'tap2' : uname.startsWith('tap:') ? 'tap' : 'vbd';
    const disk: Sxp[] = [deviceClass, ['uname', uname], ['dev', dev], ['mode', mode]];
    if (backend) disk.push(['backend', backend]);
    if (protocol) disk.push(['protocol', protocol]);
    return disk;
  });
}

function ioports(settings: Settings): Sxp[] {
  return strings(settings, 'ioports').map((text): Sxp => {
    const [from = '', to = from, ...more] = text.split('-');
    if (more.length > 0) throw new CommandFailed(`Invalid i/o port range specifier: ${text}`);
    return ['ioports', ['from', `0x${from}`], ['to', `0x${to}`]];
  });
}

const irqs = (settings: Settings): Sxp[] => strings(settings, 'irq').map((text): Sxp => ['irq', ['irq', text]]);

const VIF_KEYS = [
  'backend', 'bridge', 'ip', 'mac', 'script', 'type', 'vifname', 'rate', 'model', 'accel', 'policy', 'label',
]; // prettier-ignore

function vifs(settings: Settings): Sxp[] {
  const texts = strings(settings, 'vif');
  const nics = Number(settings.get('nics') ?? -1);
  while (texts.length < Math.min(nics, 64)) texts.push('');
  return texts.map((text): Sxp => {
    const pairs = keyValues(text);
    for (const key of pairs.keys()) if (!VIF_KEYS.includes(key)) throw new CommandFailed(`Invalid vif option: ${key}`);
    return ['vif', ...pairs];
  });
}

const VFB_KEYS = [
  'vnclisten', 'vncunused', 'vncdisplay', 'display', 'videoram', 'xauthority', 'sdl', 'vnc', 'vncpasswd', 'opengl', 'keymap',
  'serial', 'monitor',
]; // prettier-ignore

function vfbs(settings: Settings, world: World): Sxp[] {
  return strings(settings, 'vfb').flatMap((text): Sxp[] => {
    const pairs = keyValues(text);
    const type = pairs.get('type');
    if (type !== undefined) {
      pairs.delete('type');
      pairs.set(type, '1');
    }
    for (const key of pairs.keys()) {
      if (!VFB_KEYS.includes(key)) throw new CommandFailed(`configuration option ${key} unknown to vfbs`);
    }
    const keymap = textOf(settings.get('keymap') ?? '');
    if (!pairs.has('keymap') && keymap !== '') pairs.set('keymap', keymap);
    const display = world.env['DISPLAY'];
    if (!pairs.has('display') && display !== undefined) pairs.set('display', display);
    if (!pairs.has('xauthority')) pairs.set('xauthority', xauthority(world.env));
    return [['vkbd'], ['vfb', ...pairs]];
  });
}

/** `k=v,k=v`. Throws CommandFailed. */
function keyValues(text: string): Map<string, string> {
  const pairs = new Map<string, string>();
  if (text.trim() === '') return pairs;
  for (const part of text.trim().split(',')) {
    const equals = part.indexOf('=');
    if (equals < 0) throw new CommandFailed(`${part} should be a pair, separated by an equals sign.`);
    pairs.set(part.slice(0, equals).trim(), part.slice(equals + 1).trim());
  }
  return pairs;
}

/** A list setting's elements as texts. Throws CommandFailed when it is something else. */
function strings(settings: Settings, name: string): string[] {
  const value = settings.get(name) ?? [];
  if (!Array.isArray(value)) throw new CommandFailed(`${name} should be a list`);
  return (value as readonly Setting[]).map((item) => textOf(item));
}

const textOf = (value: Setting): string => (value === null ? '' : Array.isArray(value) ? '' : String(value));

const isTrue = (value: Setting): boolean => (Array.isArray(value) ? value.length > 0 : Boolean(value));

/** Whole numbers are integers, others floats. */
function sxpOf(value: Setting): Sxp {
  if (Array.isArray(value)) return (value as readonly Setting[]).map(sxpOf);
  return typeof value === 'number' && !Number.isInteger(value) ? float(value) : value;
}
