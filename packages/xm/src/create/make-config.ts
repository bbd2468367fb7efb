/** Settings to the config SXP that xend gets: the keys in Xen 4.4's order, with its checks (`create.py`, make_config). */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Sxp } from '@xenhost/sxp';
import { CommandFailed } from '../errors.ts';
import type { World } from '../world.ts';
import { checkAccessControl, checkCpuid, devicesOf, pciFunctions } from './config-devices.ts';
import type { Setting } from './options.ts';
import { isTrue, sxpOf, textOf, type SettingMap } from './setting-values.ts';

type Settings = SettingMap;

/** Throws CommandFailed. `console`: whether it will be attached, so that the boot loader may talk with the user. */
export function makeConfig(settings: Settings, world: World, console = false): Sxp {
  const config: Sxp[] = ['vm'];
  checkAccessControl(settings);
  checkCpuid(settings, 'cpuid');
  checkCpuid(settings, 'cpuid_check');
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
    config.push(['bootloader', bootloader(textOf(value('bootloader')))]);
    const words = isTrue(value('bootargs')) ? sxpOf(value('bootargs')) : console ? '' : '-q';
    config.push(['bootloader_args', words]);
  }
  config.push(['image', image], ['s3_integrity', sxpOf(value('s3_integrity'))]);
  return [...config, ...devicesOf(settings, world)];
}

/** Where Xen's programs lie. */
const PROGRAM_FOLDERS = ['/usr/bin', '/usr/sbin', '/usr/lib/xen/bin', '/usr/lib/xen/boot'];

/** `pygrub` alone is the one that is installed; left to xend where it is not. */
function bootloader(name: string): string {
  if (name !== 'pygrub') return name;
  return PROGRAM_FOLDERS.map((folder) => `${folder}/${name}`).find((path) => existsSync(path)) ?? name;
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
    for (const name of HVM_KEYS) {
      if (name === 'pci') image.push(['pci', pciTuples(settings)]);
      else if (value(name) !== null) image.push([name, sxpOf(value(name))]);
    }
  }
  for (const name of ['vhpt', 'machine_address_size', 'suppress_spurious_page_faults']) add(name);
  for (const name of ['tsc_mode', 'nomigrate']) if (value(name) !== null) image.push([name, sxpOf(value(name))]);
  return image;
}

/** The functions as tuples: domain, bus, slot, function, virtual slot and function, options, key. */
function pciTuples(settings: Settings): Sxp {
  const hex = (value: number, width: number): string => `0x${value.toString(16).padStart(width, '0')}`;
  return pciFunctions(settings).map(({ domain, bus, slot, func, vdevfn, options, key }): Sxp => [
    hex(domain, 4),
    hex(bus, 2),
    hex(slot, 2),
    hex(func, 1),
    hex(vdevfn, 2),
    options.map((option): Sxp => [...option]),
    key,
  ]);
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
