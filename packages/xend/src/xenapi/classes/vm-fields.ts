/** VM: the fields of a machine (Xen 4.4 `XendAPI.py`, VM_get_* and VM_set_*). */
import { checkSchedule } from '../../config/parse.ts';
import { isDisk } from '../../device/plan.ts';
import * as operations from '../../domain/operations.ts';
import type { Vm } from '../../domain/vm.ts';
import { consolesOf } from '../consoles.ts';
import { badPowerState, valueNotSupported } from '../errors.ts';
import { flagIn, mapIn, numberIn, textIn } from '../state.ts';
import { writer, type Field } from '../table.ts';
import type { Kind, KindValues } from '../values.ts';
import {
  actionName,
  availability,
  bootPolicyOf,
  bytesOf,
  crashBehaviour,
  mebibytesOf,
  normalExit,
  platformMap,
  platformOf,
  powerState,
  reconfigure,
  reconfigureImage,
  scheduleOf,
  vcpuParams,
} from '../vm-config.ts';
import { extrasOf, setExtras } from '../vm-extras.ts';
import type { World } from '../world.ts';

const { ro, rw } = writer<Vm>();

/** A text of the image. */
const imageText = (name: string, key: 'kernel' | 'ramdisk' | 'args'): Field<Vm> =>
  rw(name, 'string', (_, { config }) => config.image[key], (world, vm, value) => reconfigureImage(world, vm, { [key]: value })); // prettier-ignore

/** A field that nothing but the Xen-API knows. */
const extra = <K extends Kind & ('string' | 'bool' | 'int' | 'map')>(
  name: string,
  kind: K,
  get: (world: World, vm: Vm) => KindValues[K],
  check: (value: KindValues[K], vm: Vm) => KindValues[K] = (value) => value,
): Field<Vm> =>
  rw(name, kind, get, (world, vm, value) => setExtras(world, vm, { [name]: check(value, vm) }), {
    entries: kind === 'map',
  });

const devicesOf = (vm: Vm, wanted: 'VBD' | 'VIF'): string[] =>
  vm.config.devices
    .filter((device) => (wanted === 'VBD' ? isDisk(device) : device.class === 'vif'))
    .map(({ uuid }) => uuid);

export const memoryDynamicMin = (world: World, vm: Vm): number =>
  numberIn(extrasOf(world, vm), 'memory_dynamic_min', bytesOf(vm.config.memoryMiB));

async function applyVcpuParams(world: World, vm: Vm, params: KindValues['map']): Promise<void> {
  const { weight, cap, cpus } = scheduleOf(params, vm.config.vcpus);
  checkSchedule(weight, cap, vm.config.vcpus);
  await operations.setCredit(world.manager, vm, weight, cap);
  if (!vm.live) {
    await reconfigure(world, vm, { cpus });
    return;
  }
  const any = Array.from({ length: (await world.manager.ports.xc.physinfo()).maxCpuId + 1 }, (_, cpu) => cpu);
  for (const [vcpu, wanted] of cpus.entries()) {
    if (String(wanted) === String(vm.config.cpus[vcpu])) continue;
    await operations.pinCpu(world.manager, vm, vcpu, wanted.length > 0 ? wanted : any);
  }
  await reconfigure(world, vm, { cpus });
}

const refuseLive = (vm: Vm): void => {
  if (vm.live) throw badPowerState(vm.uuid, 'Halted', powerState(vm));
};

export const vmFields: readonly Field<Vm>[] = [
  ro('power_state', 'string', (_, vm) => powerState(vm)),
  rw(
    'name_label',
    'string',
    (_, { name }) => name,
    (world, vm, name) => world.manager.rename(vm, name),
  ),
  rw(
    'name_description',
    'string',
    (_, { config }) => config.description,
    (world, vm, description) => reconfigure(world, vm, { description }),
  ),
  extra('user_version', 'string', (world, vm) => textIn(extrasOf(world, vm), 'user_version', '1')),
  extra('is_a_template', 'bool', (world, vm) => flagIn(extrasOf(world, vm), 'is_a_template')),
  ro('is_control_domain', 'bool', (_, { live }) => live?.domid === 0),
  rw(
    'auto_power_on',
    'bool',
    (_, { config }) => config.onXendStart === 'start',
    (world, vm, on) => reconfigure(world, vm, { onXendStart: on ? 'start' : 'ignore' }),
  ),
  ro('resident_on', 'ref', (world) => world.hostRef),
  extra('memory_static_min', 'int', (world, vm) => numberIn(extrasOf(world, vm), 'memory_static_min')),
  rw(
    'memory_static_max',
    'int',
    (_, { config }) => bytesOf(config.maxmemMiB),
    (world, vm, bytes) => operations.setMemoryMaximum(world.manager, vm, mebibytesOf(bytes)),
  ),
  extra('memory_dynamic_min', 'int', memoryDynamicMin),
  rw(
    'memory_dynamic_max',
    'int',
    (_, { config }) => bytesOf(config.memoryMiB),
    async (world, vm, bytes) => {
      // The target of a guest that runs is the live method's.
      const memoryMiB = mebibytesOf(bytes);
      if (!vm.live) await operations.setMemoryTarget(world.manager, vm, memoryMiB);
      else if (memoryMiB > 0 && memoryMiB <= vm.config.maxmemMiB) await reconfigure(world, vm, { memoryMiB });
      else throw valueNotSupported('VM.memory_dynamic_max', String(bytes), 'it is not between 0 and memory_static_max');
    },
  ),
  rw('VCPUs_params', 'map', (_, { config }) => vcpuParams(config), applyVcpuParams, { entries: true }),
  rw(
    'VCPUs_at_startup',
    'int',
    (_, { config }) => onlineCount(config.vcpuAvail),
    (world, vm, count) => {
      refuseLive(vm);
      return reconfigure(world, vm, { vcpuAvail: availability(count, vm.config.vcpus) });
    },
  ),
  rw(
    'VCPUs_max',
    'int',
    (_, { config }) => config.vcpus,
    (world, vm, count) => {
      refuseLive(vm);
      return operations.setVcpuCount(world.manager, vm, count);
    },
  ),
  rw(
    'actions_after_shutdown',
    'string',
    (_, { config }) => actionName(config.onExit.poweroff),
    (world, vm, action) =>
      reconfigure(world, vm, { onExit: { ...vm.config.onExit, poweroff: normalExit(action, vm.uuid) } }),
  ),
  rw(
    'actions_after_reboot',
    'string',
    (_, { config }) => actionName(config.onExit.reboot),
    (world, vm, action) =>
      reconfigure(world, vm, { onExit: { ...vm.config.onExit, reboot: normalExit(action, vm.uuid) } }),
  ),
  extra(
    'actions_after_suspend',
    'string',
    (world, vm) => textIn(extrasOf(world, vm), 'actions_after_suspend'),
    (action, vm) => normalExit(action, vm.uuid),
  ),
  rw(
    'actions_after_crash',
    'string',
    (_, { config }) => actionName(config.onExit.crash),
    (world, vm, action) =>
      reconfigure(world, vm, { onExit: { ...vm.config.onExit, crash: crashBehaviour(action, vm.uuid) } }),
  ),
  ro('consoles', 'set', (world, vm) => consolesOf(world, vm).map(({ ref }) => ref)),
  ro('VIFs', 'set', (_, vm) => devicesOf(vm, 'VIF')),
  ro('VBDs', 'set', (_, vm) => devicesOf(vm, 'VBD')),
  ro('DPCIs', 'set', () => []),
  ro('DSCSIs', 'set', () => []),
  ro('DSCSI_HBAs', 'set', () => []),
  rw(
    'PV_bootloader',
    'string',
    (_, { config }) => config.bootloader,
    (world, vm, bootloader) => reconfigure(world, vm, { bootloader }),
  ),
  imageText('PV_kernel', 'kernel'),
  imageText('PV_ramdisk', 'ramdisk'),
  imageText('PV_args', 'args'),
  rw(
    'PV_bootloader_args',
    'string',
    (_, { config }) => config.bootloaderArgs,
    (world, vm, bootloaderArgs) => reconfigure(world, vm, { bootloaderArgs }),
  ),
  rw(
    'HVM_boot_policy',
    'string',
    (_, { config }) => (config.image.type === 'hvm' ? 'BIOS order' : ''),
    (world, vm, policy) => reconfigureImage(world, vm, { type: bootPolicyOf(policy) === '' ? 'linux' : 'hvm' }),
  ),
  rw(
    'HVM_boot_params',
    'map',
    (world, vm) => {
      const order = platformMap(vm.config.image)['boot'];
      const kept = mapIn(extrasOf(world, vm), 'HVM_boot_params');
      return order === undefined ? kept : { ...kept, order };
    },
    async (world, vm, { order, ...rest }) => {
      await setExtras(world, vm, { HVM_boot_params: rest });
      const platform = new Map(vm.config.image.platform);
      if (order === undefined) platform.delete('boot');
      else platform.set('boot', order);
      await reconfigureImage(world, vm, { platform });
    },
    { entries: true },
  ),
  rw(
    'platform',
    'map',
    (_, { config }) => platformMap(config.image),
    (world, vm, map) => reconfigureImage(world, vm, { platform: platformOf(map) }),
    { entries: true },
  ),
  extra('PCI_bus', 'string', (world, vm) => textIn(extrasOf(world, vm), 'PCI_bus')),
  extra('other_config', 'map', (world, vm) => mapIn(extrasOf(world, vm), 'other_config')),
  ro('domid', 'int', (_, { live }) => live?.domid ?? -1),
  ro('metrics', 'ref', (world, { uuid }) => world.derivedRef('VM_metrics', uuid)),
  ro('security_label', 'string', () => ''),
  ro('crash_dumps', 'set', () => []),
  ro('tools_version', 'map', () => ({})),
  ro('cpu_pool', 'set', async (world, vm) => {
    const pool = vm.live ? await world.manager.pools.lookup(String(vm.live.info.cpupool)) : undefined;
    return pool ? [pool.uuid] : [];
  }),
  rw(
    'pool_name',
    'string',
    (_, { config }) => config.poolName,
    (world, vm, poolName) => reconfigure(world, vm, { poolName }),
  ),
];

function onlineCount(available: bigint): number {
  let count = 0;
  for (let bits = available; bits > 0n; bits >>= 1n) count += Number(bits & 1n);
  return count;
}
