/**
 * A machine's configuration as fields of the Xen-API and back (Xen 4.4 `XendConfig.py`, its Xen-API names). Sizes are bytes
 * there and MiB here; actions are spelled with `_` there and `-` here.
 */
import { atomText, printSxp, type Sxp } from '@xenhost/sxp';
import type { XmlRpcStruct } from '@xenhost/xmlrpc-codec';
import { parseCpuList } from '../config/cpus.ts';
import { DEFAULT_WEIGHT, parseVmConfig } from '../config/parse.ts';
import type { ExitAction, ImageConfig, VmConfig } from '../config/types.ts';
import type { PowerStateName, Vm } from '../domain/vm.ts';
import { writeVmDetails } from '../store/nodes.ts';
import { crashBehaviourInvalid, normalExitInvalid, unspecifiedAttribute, valueNotSupported } from './errors.ts';
import type { JsonRecord } from './state.ts';
import { convert, type KindValues } from './values.ts';
import type { World } from './world.ts';

export const MIB = 1024 * 1024;
export const bytesOf = (mib: number): number => mib * MIB;
export const mebibytesOf = (bytes: number): number => Math.floor(bytes / MIB);

const POWER_STATES: Readonly<Record<PowerStateName, string>> = {
  halted: 'Halted', paused: 'Paused', running: 'Running', suspended: 'Suspended',
  shutdown: 'Halted', crashed: 'Crashed', unknown: 'Unknown',
}; // prettier-ignore

export const powerState = (vm: Vm): string => POWER_STATES[vm.state];

/** Replaces a machine's configuration wherever it is kept. */
export async function reconfigure(world: World, vm: Vm, changes: Partial<VmConfig>): Promise<void> {
  vm.config = { ...vm.config, ...changes };
  if (vm.live && vm.live.domid !== 0) await writeVmDetails(world.manager.ports.store, vm);
  await world.manager.save(vm);
}

export async function reconfigureImage(world: World, vm: Vm, changes: Partial<ImageConfig>): Promise<void> {
  await reconfigure(world, vm, { image: { ...vm.config.image, ...changes } });
}

// Actions after an end

const NORMAL_EXIT: readonly string[] = ['destroy', 'restart'];
const CRASH_BEHAVIOUR: Readonly<Record<string, ExitAction>> = {
  destroy: 'destroy',
  coredump_and_destroy: 'coredump-destroy',
  restart: 'restart',
  coredump_and_restart: 'coredump-restart',
  preserve: 'preserve',
  rename_restart: 'rename-restart',
};

export const actionName = (action: ExitAction): string =>
  Object.entries(CRASH_BEHAVIOUR).find(([, known]) => known === action)?.[0] ?? action;

/** Throws VM_ON_NORMAL_EXIT_INVALID with the machine's reference. */
export function normalExit(action: string, vm: string): ExitAction {
  if (!NORMAL_EXIT.includes(action)) throw normalExitInvalid(vm);
  return action as ExitAction;
}

/** Throws VM_ON_CRASH_BEHAVIOUR_INVALID with the machine's reference. */
export function crashBehaviour(action: string, vm: string): ExitAction {
  const known = Object.hasOwn(CRASH_BEHAVIOUR, action) ? CRASH_BEHAVIOUR[action] : undefined;
  if (!known) throw crashBehaviourInvalid(vm);
  return known;
}

// Maps

const textOf = (value: Sxp): string => atomText(value) ?? printSxp(value);

export const platformMap = (image: ImageConfig): Record<string, string> =>
  Object.fromEntries([...image.platform].map(([key, value]) => [key, textOf(value)]));

/** Texts that are whole numbers are numbers in configurations. */
export const platformOf = (map: KindValues['map']): ReadonlyMap<string, Sxp> =>
  new Map(
    Object.entries(map).map(([key, value]) => [key, /^(?:0|-?[1-9]\d{0,8})$/.test(value) ? Number(value) : value]),
  );

/** Weight, cap, and `cpumapN` for each vCPU that is pinned. */
export function vcpuParams(config: VmConfig): Record<string, string> {
  const pinned = config.cpus.flatMap((cpus, vcpu): [string, string][] =>
    cpus.length > 0 ? [[`cpumap${vcpu}`, cpus.join(',')]] : [],
  );
  return { weight: String(config.cpuWeight), cap: String(config.cpuCap), ...Object.fromEntries(pinned) };
}

export interface Schedule {
  readonly weight: number;
  readonly cap: number;
  /** For each vCPU; empty = any. */
  readonly cpus: readonly (readonly number[])[];
}

/** Throws VALUE_NOT_SUPPORTED. Unknown keys are ignored. */
export function scheduleOf(params: KindValues['map'], vcpus: number): Schedule {
  const what = 'VM.VCPUs_params';
  const number = (key: string, otherwise: number): number =>
    params[key] === undefined ? otherwise : convert('int', params[key], `${what} ${key}`);
  const cpus = Array.from({ length: vcpus }, (_, vcpu) => {
    const list = params[`cpumap${vcpu}`];
    if (list === undefined || list === '') return [];
    const parsed = parseCpuList(list);
    if (!parsed) throw valueNotSupported(`${what} cpumap${vcpu}`, list, 'a list of CPUs is required');
    return parsed;
  });
  return { weight: number('weight', DEFAULT_WEIGHT), cap: number('cap', 0), cpus };
}

// Creation

/** Reads a struct field by field; what is absent stays undefined. */
function reader(record: XmlRpcStruct, className: string) {
  return <K extends keyof KindValues>(name: string, kind: K): KindValues[K] | undefined => {
    const value = Object.hasOwn(record, name) ? record[name] : undefined;
    return value === undefined || value === null ? undefined : convert(kind, value, `${className}.${name}`);
  };
}

const HVM = 'hvm';

/** What VM.create makes of a record: a configuration, and what the Xen-API keeps beside it. Throws ApiError, XendError. */
export function parseVmRecord(record: XmlRpcStruct): { readonly config: VmConfig; readonly extras: JsonRecord } {
  const read = reader(record, 'VM');
  const name = read('name_label', 'string');
  if (name === undefined) throw unspecifiedAttribute('name_label', 'VM');
  const [dynamicMax, staticMax] = [read('memory_dynamic_max', 'int'), read('memory_static_max', 'int')];
  const memory = dynamicMax ?? staticMax;
  if (memory === undefined) throw unspecifiedAttribute('memory_static_max', 'VM');
  const vcpus = read('VCPUs_max', 'int') ?? read('VCPUs_at_startup', 'int') ?? 1;
  const schedule = scheduleOf(read('VCPUs_params', 'map') ?? {}, Math.max(0, Math.min(vcpus, MAX_SCHEDULED)));
  const bootParams = read('HVM_boot_params', 'map') ?? {};
  const bootPolicy = bootPolicyOf(read('HVM_boot_policy', 'string') ?? '');
  const platform = platformOf(read('platform', 'map') ?? {});
  const order = bootParams['order'];
  const image: Sxp[] = [
    bootPolicy === '' ? 'linux' : HVM,
    ['kernel', read('PV_kernel', 'string') ?? ''],
    ['ramdisk', read('PV_ramdisk', 'string') ?? ''],
    ['args', read('PV_args', 'string') ?? ''],
    ...(order === undefined ? [] : [['boot', order]]),
    ...[...platform].map(([key, value]): Sxp => [key, value]),
  ];
  const config = parseVmConfig([
    'vm',
    ['name', name],
    ['uuid', read('uuid', 'string') ?? ''],
    ['memory', mebibytesOf(memory)],
    ['maxmem', mebibytesOf(staticMax ?? memory)],
    ['vcpus', vcpus],
    ['cpu_weight', schedule.weight],
    ['cpu_cap', schedule.cap],
    ['description', read('name_description', 'string') ?? ''],
    ['bootloader', read('PV_bootloader', 'string') ?? ''],
    ['bootloader_args', read('PV_bootloader_args', 'string') ?? ''],
    ['on_xend_start', read('auto_power_on', 'bool') ? 'start' : 'ignore'],
    ...(read('pool_name', 'string') ? [['pool_name', read('pool_name', 'string') ?? '']] : []),
    ['image', image],
  ]);
  const online = read('VCPUs_at_startup', 'int') ?? vcpus;
  return {
    config: {
      ...config,
      cpus: schedule.cpus,
      vcpuAvail: availability(online, vcpus),
      onExit: {
        poweroff: normalExit(read('actions_after_shutdown', 'string') ?? 'destroy', name),
        reboot: normalExit(read('actions_after_reboot', 'string') ?? 'restart', name),
        crash: crashBehaviour(read('actions_after_crash', 'string') ?? 'restart', name),
      },
    },
    extras: {
      user_version: read('user_version', 'string') ?? '1',
      is_a_template: read('is_a_template', 'bool') ?? false,
      memory_static_min: read('memory_static_min', 'int') ?? 0,
      memory_dynamic_min: read('memory_dynamic_min', 'int') ?? memory,
      actions_after_suspend: read('actions_after_suspend', 'string') ?? '',
      HVM_boot_policy: bootPolicy,
      HVM_boot_params: bootParams,
      PCI_bus: read('PCI_bus', 'string') ?? '',
      other_config: read('other_config', 'map') ?? {},
    },
  };
}

/** vCPUs beyond it are refused by the configuration itself. */
const MAX_SCHEDULED = 1024;

/** Throws VALUE_NOT_SUPPORTED. */
export function availability(online: number, vcpus: number): bigint {
  if (online < 1 || online > vcpus) {
    throw valueNotSupported('VM.VCPUs_at_startup', String(online), `1 to ${vcpus} are allowed`);
  }
  return (1n << BigInt(online)) - 1n;
}

/** Throws VALUE_NOT_SUPPORTED. */
export function bootPolicyOf(policy: string): string {
  if (policy !== '' && policy !== 'BIOS order') {
    throw valueNotSupported('VM.HVM_boot_policy', policy, 'Xend supports only the "BIOS order" boot policy.');
  }
  return policy;
}
