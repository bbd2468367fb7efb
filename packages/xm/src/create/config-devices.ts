/** The devices of a domain's settings as SXP, with Xen 4.4's checks (`create.py`, preprocess_* and configure_*). */
import { dictOrder, stringHash, type Sxp } from '@xenhost/sxp';
import { CommandFailed } from '../errors.ts';
import { PciNameError, parsePciName, pciSxp, type PciFunction } from '../pci.ts';
import type { World } from '../world.ts';
import { xauthority } from './settings.ts';
import { strings, textOf, type SettingMap } from './setting-values.ts';

/** In the order in which xend gets them. Throws CommandFailed. */
export function devicesOf(settings: SettingMap, world: World): Sxp[] {
  const devices = [
    ...disks(settings),
    ...pcis(settings),
    ...vscsis(settings),
    ...vusbs(settings),
    ...ioports(settings),
    ...irqs(settings),
    ...vifs(settings, world),
    ...vif2s(settings),
    ...vfbs(settings, world),
  ];
  return devices.map((device): Sxp => ['device', device]);
}

function disks(settings: SettingMap): Sxp[] {
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

/** All functions of all names of `pci`. Throws CommandFailed. */
export function pciFunctions(settings: SettingMap): PciFunction[] {
  try {
    return strings(settings, 'pci').flatMap(parsePciName);
  } catch (error) {
    throw error instanceof PciNameError ? new CommandFailed(error.message) : error;
  }
}

function pcis(settings: SettingMap): Sxp[] {
  const functions = pciFunctions(settings).map(pciSxp);
  return functions.length === 0 ? [] : [['pci', ...functions]];
}

const HCTL_PARTS = 4;

/** The host has no SCSI devices to give: the first one asked for is one that cannot be found. */
function vscsis(settings: SettingMap): Sxp[] {
  const [found] = strings(settings, 'vscsi').map((text) => {
    const [physical = '', virtual, ...more] = text.split(',').map((part) => part.trim());
    if (virtual === undefined || more.length > 1) throw new CommandFailed(`vscsi syntax error "${text}"`);
    if (more.length === 0 && virtual !== 'host' && virtual.split(':').length !== HCTL_PARTS) {
      throw new CommandFailed(`vscsi syntax error "${virtual}"`);
    }
    return physical;
  });
  if (found !== undefined) throw new CommandFailed(`Cannot find device "${found}"`);
  return [];
}

const MAX_USB_PORTS = 16;

function vusbs(settings: SettingMap): Sxp[] {
  return strings(settings, 'vusb').map((text): Sxp => {
    const pairs = keyValues(text);
    const version = pairs.get('usbver') ?? '2';
    if (version !== '1' && version !== '2') throw new CommandFailed('Invalid vusb option: usbver');
    const count = pairs.get('numports') ?? '8';
    const ports = /^\d{1,3}$/.test(count) ? Number(count) : 0;
    if (ports < 1 || ports > MAX_USB_PORTS) throw new CommandFailed('Invalid vusb option: numports');
    const port = Array.from({ length: ports }, (_, i): Sxp => [String(i + 1), pairs.get(`port_${i + 1}`) ?? '']);
    return ['vusb', ['usb-ver', version], ['num-ports', count], ['port', ...port]];
  });
}

function ioports(settings: SettingMap): Sxp[] {
  return strings(settings, 'ioports').map((text): Sxp => {
    const [from = '', to = from, ...more] = text.split('-');
    if (more.length > 0) throw new CommandFailed(`Invalid i/o port range specifier: ${text}`);
    return ['ioports', ['from', `0x${from}`], ['to', `0x${to}`]];
  });
}

const irqs = (settings: SettingMap): Sxp[] => strings(settings, 'irq').map((text): Sxp => ['irq', ['irq', text]]);

const VIF_KEYS = [
  'backend', 'bridge', 'ip', 'mac', 'script', 'type', 'vifname', 'rate', 'model', 'accel', 'policy', 'label',
]; // prettier-ignore
/** More interfaces than this nobody means. */
const MAX_NICS = 64;

function vifs(settings: SettingMap, world: World): Sxp[] {
  const texts = strings(settings, 'vif');
  const nics = Number(settings.get('nics') ?? -1);
  if (nics > 0) {
    world.err("Warning: The nics option is deprecated.  Please use an empty vif entry instead:\n\n  vif = [ '' ]\n\n");
  } else if (nics === 0) {
    world.err('Warning: The nics option is deprecated.  Please remove it.\n');
  }
  while (texts.length < Math.min(nics, MAX_NICS)) texts.push('');
  return texts.map((text): Sxp => knownPairs('vif', text, VIF_KEYS));
}

const VIF2_KEYS = [
  'front_mac', 'back_mac', 'backend', 'trusted', 'back_trusted', 'front_filter_mac', 'filter_mac', 'bridge', 'pdev',
  'max_bypasses',
]; // prettier-ignore

const vif2s = (settings: SettingMap): Sxp[] =>
  strings(settings, 'vif2').map((text): Sxp => knownPairs('vif2', text, VIF2_KEYS));

function knownPairs(name: string, text: string, known: readonly string[]): Sxp {
  const pairs = inDictOrder(keyValues(text));
  for (const [key] of pairs) if (!known.includes(key)) throw new CommandFailed(`Invalid ${name} option: ${key}`);
  return [name, ...pairs];
}

const VFB_KEYS = [
  'vnclisten', 'vncunused', 'vncdisplay', 'display', 'videoram', 'xauthority', 'sdl', 'vnc', 'vncpasswd', 'opengl', 'keymap',
  'serial', 'monitor',
]; // prettier-ignore

function vfbs(settings: SettingMap, world: World): Sxp[] {
  return strings(settings, 'vfb').flatMap((text): Sxp[] => {
    const pairs = keyValues(text);
    const type = pairs.get('type');
    if (type !== undefined) pairs.set(type, '1');
    // What Python takes out of a dict leaves its place in the table taken.
    const config = inDictOrder(pairs).filter(([key]) => key !== 'type');
    for (const [key] of config) {
      if (!VFB_KEYS.includes(key)) throw new CommandFailed(`configuration option ${key} unknown to vfbs`);
    }
    const keymap = textOf(settings.get('keymap') ?? '');
    if (!pairs.has('keymap') && keymap !== '') config.push(['keymap', keymap]);
    const display = world.env['DISPLAY'];
    if (!pairs.has('display') && display !== undefined) config.push(['display', display]);
    if (!pairs.has('xauthority')) config.push(['xauthority', xauthority(world.env)]);
    return [['vkbd'], ['vfb', ...config]];
  });
}

/** Pairs as the dict that they were in Python showed them. */
const inDictOrder = (pairs: ReadonlyMap<string, string>): [string, string][] =>
  dictOrder([...pairs.keys()], stringHash).map((key) => [key, pairs.get(key) ?? '']);

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

const CPUID_ITEM = /^(?:0x)?[0-9A-Fa-f]+(?:,(?:0x)?[0-9A-Fa-f]+)?:(.*)$/;
const CPUID_REGISTER = /^(eax|ebx|ecx|edx)=(.*)$/;
const REGISTER_BITS = 32;

/** Items of `cpuid` in xm's spelling are checked here; those in xl's are xend's to read. Throws CommandFailed. */
export function checkCpuid(settings: SettingMap, name: 'cpuid' | 'cpuid_check'): void {
  for (const item of strings(settings, name)) {
    const registers = CPUID_ITEM.exec(item)?.[1];
    if (registers === undefined) continue;
    for (const register of registers.split(',')) {
      const [, which, value = ''] = CPUID_REGISTER.exec(register) ?? [];
      if (which === undefined) throw new CommandFailed("cpuid's syntax is (eax|ebx|ecx|edx)=value");
      if (!value.startsWith('0x') && value.length !== REGISTER_BITS) {
        throw new CommandFailed(
          `cpuid: We should specify all the bits of the register ${which} for input ${item.slice(0, item.indexOf(':'))}\n`,
        );
      }
    }
  }
}

/** A label asks for a policy, and this host enforces none. Throws CommandFailed. */
export function checkAccessControl(settings: SettingMap): void {
  const labels = strings(settings, 'access_control');
  const [label] = labels;
  if (label === undefined) return;
  if (labels.length > 1) throw new CommandFailed('Multiple access_control definitions.');
  const policy = /^policy=(.*),label=(.*)$/.exec(label)?.[1];
  if (policy === undefined) throw new CommandFailed(`Invalid access_control specifier: ${label}`);
  throw new CommandFailed(`Security policy (${policy}) incompatible with enforced policy ().`);
}
