/** A configuration as the records that the Xen-API makes a domain of (Xen 4.4 `xenapi_create.py`, sxp2xml). */
import { atomNumber, atomText, childOf, childValue, childrenOf, isList, tagOf, type Sxp } from '@xenhost/sxp';
import type { XmlRpcStruct, XmlRpcValue } from '@xenhost/xmlrpc-codec';
import { InvalidArgument } from '../errors.ts';

export interface Disk {
  readonly uname: string;
  readonly device: string;
  readonly type: 'CD' | 'Disk';
  readonly mode: 'RO' | 'RW';
  readonly bootable: boolean;
  readonly sizeBytes: string;
}

export interface Nic {
  readonly mac: string;
  readonly network: string | undefined;
}

export interface Screen {
  readonly protocol: string;
  readonly otherConfig: Readonly<Record<string, string>>;
}

export interface Machine {
  readonly record: XmlRpcStruct;
  readonly disks: readonly Disk[];
  readonly nics: readonly Nic[];
  readonly consoles: readonly Screen[];
}

const BYTES_PER_MIB = 2 ** 20;

/** `transient` for a machine that goes when its domain ends. Throws InvalidArgument. */
export function machineOfSxp(config: Sxp, transient = false): Machine {
  const text = (key: string, missing = ''): string => atomText(childValue(config, key)) ?? missing;
  const image = childValue(config, 'image');
  const within = (key: string): string => atomText(childValue(image, key)) ?? '';
  const memory = (key: string, missing: number): number => atomNumber(childValue(config, key)) ?? missing;
  const [memoryMiB, vcpus] = [memory('memory', 128), text('vcpus', '1')];
  const maxMiB = memory('maxmem', memoryMiB);
  const bytes = (mib: number): string => String(mib * BYTES_PER_MIB);
  const hvm = tagOf(image) === 'hvm';
  const record: Record<string, XmlRpcValue> = {
    name_label: text('name'),
    name_description: text('description'),
    user_version: '1.0',
    is_a_template: false,
    auto_power_on: text('on_xend_start') === 'start',
    s3_integrity: text('s3_integrity', '1'),
    superpages: text('superpages', '0'),
    memory_static_max: bytes(maxMiB),
    memory_static_min: '0',
    memory_dynamic_max: bytes(memoryMiB),
    memory_dynamic_min: bytes(memoryMiB),
    VCPUs_params: vcpuParams(config),
    VCPUs_max: vcpus,
    VCPUs_at_startup: vcpus,
    actions_after_shutdown: action(text('on_poweroff', 'destroy'), NORMAL_ACTIONS),
    actions_after_reboot: action(text('on_reboot', 'restart'), NORMAL_ACTIONS),
    actions_after_crash: action(text('on_crash', 'restart'), CRASH_ACTIONS),
    platform: platformOf(image),
    other_config: transient ? { transient: 'True' } : {},
    pool_name: text('pool_name', 'Pool-0'),
    PV_bootloader: hvm ? '' : text('bootloader'),
    PV_kernel: hvm ? '' : within('kernel'),
    PV_ramdisk: hvm ? '' : within('ramdisk'),
    PV_args: hvm ? '' : kernelArguments(within),
    PV_bootloader_args: hvm ? '' : text('bootloader_args'),
    HVM_boot_policy: hvm ? 'BIOS order' : '',
    HVM_boot_params: hvm ? { order: within('boot') || 'c' } : {},
    PCI_bus: '',
    ...(text('uuid') === '' ? {} : { uuid: text('uuid') }),
  };
  const devices = childrenOf(config, 'device').flatMap((device) => (isList(device[1]) ? [device[1]] : []));
  return {
    record,
    disks: devices.filter((device) => ['vbd', 'tap', 'tap2'].includes(tagOf(device) ?? '')).map(diskOf),
    nics: devices.filter((device) => tagOf(device) === 'vif').map(nicOf),
    consoles: devices.filter((device) => tagOf(device) === 'vfb').map(screenOf),
  };
}

const NORMAL_ACTIONS: readonly string[] = ['destroy', 'restart'];
const CRASH_ACTIONS: readonly string[] = [
  'destroy', 'coredump_and_destroy', 'restart', 'coredump_and_restart', 'preserve', 'rename_restart',
]; // prettier-ignore

/** The Xen-API's spelling of on_* actions, of which it has fewer than configurations. Throws InvalidArgument. */
function action(word: string, known: readonly string[]): string {
  const spelled = word.replace(/^coredump-/, 'coredump_and_').replaceAll('-', '_');
  if (!known.includes(spelled)) throw new InvalidArgument();
  return spelled;
}

function kernelArguments(within: (key: string) => string): string {
  const [ip, root] = [within('ip'), within('root')];
  return [root && `root=${root}`, ip && `ip=${ip}`, within('args')].filter((word) => word !== '').join(' ');
}

function vcpuParams(config: Sxp): XmlRpcStruct {
  const params: Record<string, string> = {};
  for (const [key, name] of [['cpu_weight', 'weight'], ['cpu_cap', 'cap']] as const) {
    const value = atomText(childValue(config, key));
    if (value !== undefined) params[name] = value;
  } // prettier-ignore
  const cpus = childValue(config, 'cpus');
  const count = atomNumber(childValue(config, 'vcpus')) ?? 1;
  for (let i = 0; i < count && cpus !== undefined; i += 1) {
    const own = isList(cpus) ? cpus[i] : cpus;
    if (own !== undefined)
      params[`cpumap${i}`] = isList(own) ? own.map((one) => atomText(one)).join(',') : (atomText(own) ?? '');
  }
  return params;
}

/** What the image has that is not of its own field in the record. */
const NOT_PLATFORM = ['kernel', 'ramdisk', 'args', 'ip', 'root', 'boot', 'pci', 'cpuid', 'cpuid_check', 'vcpus'];

function platformOf(image: Sxp | undefined): XmlRpcStruct {
  const platform: Record<string, string> = {};
  for (const pair of isList(image) ? image.slice(1) : []) {
    const [key, value] = isList(pair) ? pair : [];
    const name = atomText(key);
    if (name === undefined || NOT_PLATFORM.includes(name) || isList(value)) continue;
    platform[name] = atomText(value) ?? '';
  }
  return platform;
}

function diskOf(device: Sxp, index: number): Disk {
  const text = (key: string): string => atomText(childValue(device, key)) ?? '';
  const [name = '', kind] = text('dev').split(':');
  return {
    uname: text('uname'),
    device: name,
    type: kind === 'cdrom' ? 'CD' : 'Disk',
    mode: text('mode').startsWith('w') ? 'RW' : 'RO',
    bootable: index === 0,
    sizeBytes: '0',
  };
}

function nicOf(device: Sxp): Nic {
  const text = (key: string): string | undefined => atomText(childValue(device, key));
  return { mac: text('mac') ?? '', network: text('bridge') };
}

function screenOf(device: Sxp): Screen {
  const pairs = (isList(device) ? device.slice(1) : []).flatMap((pair): [string, string][] => {
    const [key, value] = isList(pair) ? pair : [];
    return key === undefined ? [] : [[atomText(key) ?? '', atomText(value) ?? '']];
  });
  return { protocol: childOf(device, 'sdl') ? 'rdp' : 'rfb', otherConfig: Object.fromEntries(pairs) };
}
