/**
 * Config SXP (`(vm (name N) ...)`, as xm sends it, as `xm list --long` shows it, as stored) to a VmConfig. Answers to Xen 4.4
 * `XendConfig.py`. Keys that it does not know are ignored, as there.
 */
import { randomUUID } from 'node:crypto';
import {
  atomNumber,
  atomText,
  childOf,
  childValue,
  childrenOf,
  isList,
  printSxp,
  tagOf,
  type Sxp,
  type SxpList,
} from '@xenhost/sxp';
import { XendError } from '../errors.ts';
import {
  MAX_DEVICES,
  MAX_IMAGE_TEXT_BYTES,
  MAX_MEMORY_MIB,
  MAX_NAME_LENGTH,
  MAX_TEXT_BYTES,
  MAX_VCPUS,
} from '../limits.ts';
import { parseCpuid } from './cpuid.ts';
import { parseCpuList } from './cpus.ts';
import { imageSxp } from './sxp.ts';
import {
  EXIT_ACTIONS,
  type DeviceConfig,
  type ExitAction,
  type ExitEvent,
  type ImageConfig,
  type VmConfig,
} from './types.ts';

const MIB = 1024 * 1024;
const NAME = /^[A-Za-z0-9_\-.:+]+$/;
const UUID = /^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$/i;
export const DEFAULT_WEIGHT = 256;
const DEFAULT_POOL = 'Pool-0';

/** Reads and checks. Throws XendError with xend's own texts where it has one. */
export function parseVmConfig(sxp: Sxp): VmConfig {
  if (!isList(sxp) || !['vm', 'domain'].includes(tagOf(sxp) ?? '')) {
    throw new XendError('the configuration is not an SXP that starts with vm');
  }
  const maxmemMiB = mebibytes(sxp, ['maxmem'], ['memory_static_max']);
  const memoryMiB = mebibytes(sxp, ['memory'], ['memory_dynamic_max']) ?? maxmemMiB ?? 0;
  const vcpus = integer(sxp, ['vcpus', 'VCPUs_max']) ?? integer(imageOf(sxp), ['vcpus']) ?? 1;
  if (vcpus <= 0) throw new XendError('Zero or less VCPUs is invalid');
  if (vcpus > MAX_VCPUS) throw new XendError(`Cannot have ${vcpus} VCPUs: the limit is ${MAX_VCPUS}`);
  const config: VmConfig = {
    name: text(sxp, ['name', 'name_label']) ?? '',
    uuid: parseUuid(text(sxp, ['uuid'])),
    memoryMiB,
    // Nothing said, or said too low by people who only raised `memory`: the start memory is the limit.
    maxmemMiB: maxmemMiB === undefined || maxmemMiB === 0 ? memoryMiB : maxmemMiB,
    shadowMemoryMiB: integer(sxp, ['shadow_memory']) ?? 0,
    vcpus,
    vcpuAvail: parseAvailability(childValue(sxp, 'vcpu_avail'), vcpus),
    cpus: parseCpus(sxp, vcpus),
    cpuWeight: integer(sxp, ['cpu_weight']) ?? DEFAULT_WEIGHT,
    cpuCap: integer(sxp, ['cpu_cap']) ?? 0,
    poolName: text(sxp, ['pool_name']) ?? DEFAULT_POOL,
    onExit: parseExitActions(sxp),
    onXendStart: text(sxp, ['on_xend_start']) ?? 'ignore',
    onXendStop: text(sxp, ['on_xend_stop']) ?? 'ignore',
    features: text(sxp, ['features']) ?? '',
    cpuid: parseCpuid(childOf(sxp, 'cpuid')?.[1]),
    description: text(sxp, ['description']) ?? '',
    bootloader: text(sxp, ['bootloader', 'PV_bootloader']) ?? '',
    bootloaderArgs: text(sxp, ['bootloader_args', 'PV_bootloader_args']) ?? '',
    image: parseImage(imageOf(sxp)),
    // Every domain gets its console anyway; `xm list --long` shows it among the devices.
    devices: childrenOf(sxp, 'device')
      .filter((device) => tagOf(device[1]) !== 'console')
      .map((device) => parseDevice(device[1])),
  };
  checkName(config.name);
  checkMemory(config);
  checkTexts(config);
  checkSchedule(config.cpuWeight, config.cpuCap, vcpus);
  return config;
}

export function checkName(name: string): void {
  if (name === '') throw new XendError('Missing VM Name');
  if (!NAME.test(name) || name.length > MAX_NAME_LENGTH) throw new XendError('Invalid VM Name');
}

export function checkSchedule(weight: number, cap: number, vcpus: number): void {
  if (weight < 1 || weight > 65535) {
    throw new XendError('Cpu weight out of range, valid values are within range from 1 to 65535');
  }
  if (cap < 0 || cap > vcpus * 100) {
    throw new XendError(`Cpu cap out of range, valid range is from 0 to ${vcpus * 100} for specified number of vcpus`);
  }
}

function checkLength(what: string, text: string, limit: number = MAX_TEXT_BYTES): void {
  if (Buffer.byteLength(text) > limit) throw new XendError(`${what} is too long: the limit is ${limit} bytes`);
}

/** What xenstore could not hold is refused before anything is made. */
function checkTexts(config: VmConfig): void {
  for (const key of [
    'description',
    'bootloader',
    'bootloaderArgs',
    'features',
    'poolName',
    'onXendStart',
    'onXendStop',
  ] as const) {
    checkLength(key, config[key]);
  }
  checkLength('image', printSxp(imageSxp(config)), MAX_IMAGE_TEXT_BYTES);
  if (config.devices.length > MAX_DEVICES) throw new XendError(`too many devices: the limit is ${MAX_DEVICES}`);
}

function checkMemory(config: VmConfig): void {
  if (config.memoryMiB <= 0) throw new XendError('memory_dynamic_max must be greater than zero');
  if (config.maxmemMiB > MAX_MEMORY_MIB) throw new XendError(`memory_static_max must be at most ${MAX_MEMORY_MIB} MiB`);
  if (config.memoryMiB > config.maxmemMiB) {
    throw new XendError('memory_dynamic_max must be less than or equal to memory_static_max');
  }
}

function imageOf(sxp: SxpList): SxpList {
  const image = childValue(sxp, 'image');
  return isList(image) ? image : [];
}

function text(sxp: SxpList, keys: readonly string[]): string | undefined {
  for (const key of keys) {
    const value = atomText(childValue(sxp, key));
    if (value !== undefined) return value;
  }
  return undefined;
}

function integer(sxp: SxpList, keys: readonly string[]): number | undefined {
  for (const key of keys) {
    const value = childValue(sxp, key);
    if (value === undefined || value === null || value === '') continue;
    const number = atomNumber(value);
    if (number === undefined || !Number.isSafeInteger(Math.trunc(number))) {
      throw new XendError(`integer expected: ${key}: ${atomText(value) ?? 'a list'}`);
    }
    return Math.trunc(number);
  }
  return undefined;
}

function mebibytes(sxp: SxpList, keysMiB: readonly string[], keysBytes: readonly string[]): number | undefined {
  const mib = integer(sxp, keysMiB);
  if (mib !== undefined) return mib;
  const bytes = integer(sxp, keysBytes);
  return bytes === undefined ? undefined : Math.floor(bytes / MIB);
}

function parseUuid(given: string | undefined): string {
  if (given === undefined || given === '') return randomUUID();
  if (!UUID.test(given)) throw new XendError(`Invalid UUID: ${given}`);
  const hex = given.replaceAll('-', '').toLowerCase();
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}

function parseAvailability(value: Sxp | undefined, vcpus: number): bigint {
  const all = (1n << BigInt(vcpus)) - 1n;
  const digits = atomText(value);
  if (digits === undefined || !/^\d+$/.test(digits)) return all;
  return BigInt(digits) & all;
}

function parseCpus(sxp: SxpList, vcpus: number): number[][] {
  const fail = (given: Sxp): never => {
    throw new XendError(`cpus = ${atomText(given) ?? JSON.stringify(given)}: not a list of CPUs`);
  };
  const one = (item: Sxp): number[] => {
    if (isList(item)) return item.map((cpu) => atomNumber(cpu) ?? fail(item));
    return parseCpuList(atomText(item) ?? '') ?? fail(item);
  };
  const given = childOf(sxp, 'cpus')?.[1];
  const pinned = atomText(childValue(sxp, 'cpu'));
  if (isList(given) && given.length > 0) {
    if (given.length !== vcpus) throw new XendError('vcpus and the item number of cpus are not same');
    return given.map(one);
  }
  const words = [pinned, atomText(given)].filter((word) => word !== undefined && word !== '' && word !== '-1');
  const cpus = words.length === 0 ? [] : one(words.join(','));
  return Array.from({ length: vcpus }, () => [...cpus]);
}

/** The old `restart` setting in terms of today's actions. */
const OLD_RESTART: Readonly<Record<string, Readonly<Record<ExitEvent, ExitAction>>>> = {
  onreboot: { poweroff: 'destroy', reboot: 'restart', crash: 'destroy' },
  always: { poweroff: 'restart', reboot: 'restart', crash: 'restart' },
  never: { poweroff: 'destroy', reboot: 'destroy', crash: 'destroy' },
};

function parseExitActions(sxp: SxpList): Record<ExitEvent, ExitAction> {
  const defaults = OLD_RESTART[text(sxp, ['restart']) ?? ''] ?? {
    poweroff: 'destroy',
    reboot: 'restart',
    crash: 'restart',
  };
  const action = (event: ExitEvent, apiName: string): ExitAction => {
    const given = text(sxp, [`on_${event}`, apiName]);
    if (given === undefined || given === '') return defaults[event];
    const spelled = given.replaceAll('_', '-').replace('coredump-and-', 'coredump-');
    const found = EXIT_ACTIONS.find((known) => known === spelled);
    if (!found) throw new XendError(`Invalid event handling mode: ${event}`);
    return found;
  };
  return {
    poweroff: action('poweroff', 'actions_after_shutdown'),
    reboot: action('reboot', 'actions_after_reboot'),
    crash: action('crash', 'actions_after_crash'),
  };
}

/** Keys of the image SXP that have a field of their own. */
const IMAGE_FIELDS = new Set(['kernel', 'ramdisk', 'args', 'ip', 'root', 'superpages', 'notes', 'vcpus']);

function parseImage(image: SxpList): ImageConfig {
  const type = tagOf(image) ?? 'linux';
  if (type !== 'linux' && type !== 'generic' && type !== 'hvm') throw new XendError(`unknown image type: ${type}`);
  let args = text(image, ['args']) ?? '';
  const ip = text(image, ['ip']);
  if (ip && !/ip=[^ ]+/.test(args)) args = `ip=${ip} ${args}`;
  const root = text(image, ['root']);
  if (root && !args.includes('root=')) args = `root=${root} ${args}`;
  const platform = new Map<string, Sxp>();
  for (const item of image.slice(1)) {
    const key = isList(item) ? tagOf(item) : undefined;
    if (key !== undefined && isList(item) && item[1] !== undefined && !IMAGE_FIELDS.has(key))
      platform.set(key, plain(item[1]));
  }
  for (const key of ['tsc_mode', 'nomigrate']) if (!platform.has(key)) platform.set(key, 0);
  return {
    type,
    kernel: text(image, ['kernel']) ?? '',
    ramdisk: text(image, ['ramdisk']) ?? '',
    args: args.trim(),
    superpages: integer(image, ['superpages']) ?? 0,
    platform,
  };
}

/** Text is all that files and xenstore hold: whole numbers in it are numbers again. */
function plain(value: Sxp): Sxp {
  return typeof value === 'string' && /^(?:0|-?[1-9]\d{0,8})$/.test(value) ? Number(value) : value;
}

/** One `(vif (mac M) ...)`. Throws XendError. */
export function parseDevice(device: Sxp | undefined): DeviceConfig {
  const deviceClass = tagOf(device);
  if (!isList(device) || deviceClass === undefined || !/^[a-z0-9]+$/.test(deviceClass)) {
    throw new XendError('a device configuration is not an SXP that starts with its class');
  }
  const options = new Map<string, Sxp>();
  for (const item of device.slice(1)) {
    const key = isList(item) ? tagOf(item) : undefined;
    if (key !== undefined && isList(item) && item[1] !== undefined && item[1] !== null)
      options.set(key, plain(item[1]));
  }
  for (const [key, value] of options) checkLength(`${deviceClass} ${key}`, atomText(value) ?? printSxp(value));
  return { class: deviceClass, uuid: atomText(options.get('uuid')) ?? randomUUID(), options };
}
