/**
 * A domain by way of the Xen-API: its VDIs, the VM, its VBDs, VIFs and consoles (Xen 4.4 `xenapi_create.py`), from a
 * configuration in SXP or from an XML document of the same content.
 */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { atomNumber, atomText, childOf, childValue, childrenOf, isList, tagOf, type Sxp } from '@xenhost/sxp';
import type { XmlRpcStruct, XmlRpcValue } from '@xenhost/xmlrpc-codec';
import { CommandFailed } from '../errors.ts';
import type { World } from '../world.ts';
import { XmlError, descendants, parseXml, type XmlElement } from '../xml.ts';
import { localSr, networkOf } from './devices.ts';
import type { XenApi } from './session.ts';

interface Disk {
  readonly uname: string;
  readonly device: string;
  readonly type: 'CD' | 'Disk';
  readonly mode: 'RO' | 'RW';
  readonly bootable: boolean;
  readonly sizeBytes: string;
}

interface Nic {
  readonly mac: string;
  readonly network: string | undefined;
}

interface Screen {
  readonly protocol: string;
  readonly otherConfig: Readonly<Record<string, string>>;
}

interface Machine {
  readonly record: XmlRpcStruct;
  readonly disks: readonly Disk[];
  readonly nics: readonly Nic[];
  readonly consoles: readonly Screen[];
}

/** What a failed creation leaves is taken away again. */
async function build(api: XenApi, machine: Machine): Promise<string> {
  const sr = machine.disks.length > 0 ? await localSr(api) : '';
  const vdis: string[] = [];
  for (const { uname, mode, sizeBytes } of machine.disks) {
    vdis.push(
      await api.text('VDI.create', {
        name_label: uname,
        name_description: '',
        SR: sr,
        virtual_size: sizeBytes,
        type: 'system',
        sharable: false,
        read_only: mode === 'RO',
        other_config: { location: uname },
      }),
    );
  }
  let vm: string | undefined;
  try {
    vm = await api.text('VM.create', machine.record);
    await addDevices(api, vm, machine, vdis);
    return vm;
  } catch (error) {
    if (vm !== undefined) await api.call('VM.destroy', vm).catch(() => undefined);
    for (const vdi of vdis) await api.call('VDI.destroy', vdi).catch(() => undefined);
    throw error;
  }
}

async function addDevices(api: XenApi, vm: string, machine: Machine, vdis: readonly string[]): Promise<void> {
  for (const [i, { device, bootable, mode, type }] of machine.disks.entries()) {
    await api.call('VBD.create', {
      VM: vm,
      VDI: vdis[i] ?? '',
      device,
      bootable,
      mode,
      type,
      driver: 'paravirtualised',
    });
  }
  for (const [i, { mac, network }] of machine.nics.entries()) {
    const ref = await networkOf(api, network);
    await api.call('VIF.create', { VM: vm, network: ref, device: `eth${i}`, MAC: mac, MTU: '' });
  }
  for (const { protocol, otherConfig } of machine.consoles) {
    await api.call('console.create', { VM: vm, protocol, other_config: otherConfig });
  }
}

// From SXP

const BYTES_PER_MIB = 2 ** 20;

export const createFromSxp = (api: XenApi, config: Sxp): Promise<string> => build(api, machineOfSxp(config));

export function machineOfSxp(config: Sxp): Machine {
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
    actions_after_shutdown: action(text('on_poweroff', 'destroy')),
    actions_after_reboot: action(text('on_reboot', 'restart')),
    actions_after_crash: action(text('on_crash', 'restart')),
    platform: platformOf(image),
    other_config: {},
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

/** The Xen-API's spelling of on_* actions. */
const action = (word: string): string => word.replace(/^coredump-/, 'coredump_and_').replaceAll('-', '_');

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

// From XML

/** Every <vm> of a file. Throws CommandFailed. */
export async function createFromXml(api: XenApi, file: string, world: World): Promise<string[]> {
  let root: XmlElement;
  try {
    root = parseXml(readFileSync(resolve(world.cwd, file), 'utf8'));
  } catch (error) {
    if (error instanceof XmlError) throw new CommandFailed(`${file}: ${error.message}`);
    throw error;
  }
  const vdis = new Map(descendants(root, 'vdi').map((vdi) => [vdi.attributes['name'] ?? '', vdi]));
  const refs: string[] = [];
  for (const vm of descendants(root, 'vm')) refs.push(await build(api, machineOfXml(vm, vdis)));
  return refs;
}

function machineOfXml(vm: XmlElement, vdis: ReadonlyMap<string, XmlElement>): Machine {
  const attribute = (name: string, missing = ''): string => vm.attributes[name] ?? missing;
  const child = (name: string): XmlElement | undefined => descendants(vm, name)[0];
  const of = (name: string, key: string): string => child(name)?.attributes[key] ?? '';
  const pairs = (element: XmlElement | undefined, name: string): Record<string, string> =>
    Object.fromEntries(
      (element ? descendants(element, name) : []).map(({ attributes }) => [
        attributes['key'] ?? '',
        attributes['value'] ?? '',
      ]),
    );
  const named = (name: string): string =>
    child('name') ? (descendants(child('name') ?? vm, name)[0]?.text.trim() ?? '') : '';
  const hvm = child('pv') === undefined;
  const record: XmlRpcStruct = {
    name_label: named('label'),
    name_description: named('description'),
    user_version: child('version')?.text.trim() ?? '',
    is_a_template: attribute('is_a_template') === 'true',
    auto_power_on: attribute('auto_power_on') === 'true',
    s3_integrity: attribute('s3_integrity', '1'),
    superpages: attribute('superpages', '0'),
    memory_static_max: of('memory', 'static_max'),
    memory_static_min: of('memory', 'static_min'),
    memory_dynamic_max: of('memory', 'dynamic_max'),
    memory_dynamic_min: of('memory', 'dynamic_min'),
    VCPUs_params: pairs(vm, 'vcpu_param'),
    VCPUs_max: attribute('vcpus_max', '1'),
    VCPUs_at_startup: attribute('vcpus_at_startup', '1'),
    actions_after_shutdown: attribute('actions_after_shutdown'),
    actions_after_reboot: attribute('actions_after_reboot'),
    actions_after_crash: attribute('actions_after_crash'),
    platform: pairs(vm, 'platform'),
    other_config: Object.fromEntries(
      vm.children
        .filter((element) => element.name === 'other_config')
        .map(({ attributes }) => [attributes['key'] ?? '', attributes['value'] ?? '']),
    ),
    pool_name: attribute('pool_name'),
    PV_bootloader: of('pv', 'bootloader'),
    PV_kernel: of('pv', 'kernel'),
    PV_ramdisk: of('pv', 'ramdisk'),
    PV_args: of('pv', 'args'),
    PV_bootloader_args: of('pv', 'bootloader_args'),
    HVM_boot_policy: of('hvm', 'boot_policy'),
    HVM_boot_params: hvm ? pairs(child('hvm'), 'boot_param') : {},
    PCI_bus: '',
  };
  return {
    record,
    disks: descendants(vm, 'vbd').map(({ attributes }) => {
      const vdi = vdis.get(attributes['vdi'] ?? '')?.attributes ?? {};
      return {
        uname: vdi['src'] ?? '',
        device: attributes['device'] ?? '',
        type: attributes['type'] === 'CD' ? 'CD' : 'Disk',
        mode: attributes['mode'] === 'RO' ? 'RO' : 'RW',
        bootable: attributes['bootable'] === '1',
        sizeBytes: vdi['size'] ?? '0',
      };
    }),
    nics: descendants(vm, 'vif').map(({ attributes }) => ({
      mac: attributes['mac'] ?? '',
      network: attributes['network'],
    })),
    consoles: descendants(vm, 'console').map((console) => ({
      protocol: console.attributes['protocol'] ?? 'vt100',
      otherConfig: pairs(console, 'other_config'),
    })),
  };
}
