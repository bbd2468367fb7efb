/** VM: machines, and what can be done with them (Xen 4.4 `XendAPI.py`, VM_*). The same handlers serve the legacy methods. */
import * as operations from '../../domain/operations.ts';
import type { PowerStateName, Vm } from '../../domain/vm.ts';
import { XendError } from '../../errors.ts';
import { dropConsoles } from '../consoles.ts';
import {
  badPowerState,
  handleInvalid,
  hvmRequired,
  internalError,
  notAllowed,
  uniqueName,
  unsupported,
} from '../errors.ts';
import { defineClass, writer } from '../table.ts';
import { mebibytesOf, parseVmRecord, powerState, vcpuParams } from '../vm-config.ts';
import { dropExtras, setExtras } from '../vm-extras.ts';
import type { World } from '../world.ts';
import { setSecurityLabel } from './labels.ts';
import { vmFields } from './vm-fields.ts';

const { func, method } = writer<Vm>();

const PAUSED = { name: 'start_paused', kind: 'bool' } as const;
const FORCE = { name: 'force', kind: 'bool', optional: true } as const;
const VALUE = { name: 'value', kind: 'int' } as const;

/** Throws VM_BAD_POWER_STATE unless the machine is in one of the states; the first is the one it should be in. */
async function require(world: World, vm: Vm, ...states: readonly [string, ...PowerStateName[]]): Promise<void> {
  await world.manager.refreshOf(vm);
  const [expected, ...allowed] = states;
  if (!allowed.includes(vm.state)) throw badPowerState(vm.uuid, expected, powerState(vm));
}

const life = [
  method({
    name: 'start',
    doc: 'Gives a halted machine a domain and, unless told not to, lets it run.',
    params: [PAUSED, FORCE],
    async run(world, _, vm, paused) {
      await require(world, vm, 'Halted', 'halted', 'shutdown');
      if (!world.enabled) throw notAllowed('the host is disabled');
      if (vm.live) throw badPowerState(vm.uuid, 'Halted', powerState(vm));
      try {
        await world.legacyOf('xend.domain.start', vm, paused);
      } catch (error) {
        if (error instanceof XendError && error.message.startsWith('HVM guest support')) throw hvmRequired(vm.uuid);
        throw error;
      }
    },
  }),
  method({
    name: 'pause',
    doc: 'Stops a machine from being scheduled.',
    async run(world, _, vm) {
      await require(world, vm, 'Running', 'running', 'paused', 'crashed');
      await operations.pause(world.manager, vm, vm.name);
    },
  }),
  method({
    name: 'unpause',
    doc: 'Lets a paused machine run.',
    async run(world, _, vm) {
      await require(world, vm, 'Paused', 'paused', 'running');
      await operations.unpause(world.manager, vm, vm.name);
    },
  }),
  ...(['poweroff', 'reboot'] as const).map((reason) =>
    method({
      name: reason === 'reboot' ? 'clean_reboot' : 'clean_shutdown',
      doc: `Asks the guest for a ${reason}.`,
      async run(world, _, vm) {
        await require(world, vm, 'Running', 'running', 'paused', 'crashed');
        await operations.shutdown(world.manager, vm, reason);
      },
    }),
  ),
  method({
    name: 'hard_shutdown',
    doc: 'Ends a machine at once.',
    async run(world, _, vm) {
      await world.legacyOf('xend.domain.destroy', vm);
    },
  }),
  method({
    name: 'hard_reboot',
    doc: 'Ends a machine at once and starts it again.',
    async run(world, _, vm) {
      await require(world, vm, 'Running', 'running', 'paused');
      await operations.reset(world.manager, vm, vm.name);
    },
  }),
  method({
    name: 'suspend',
    doc: 'Saves a managed machine to the disk and ends its domain.',
    async run(world, _, vm) {
      await require(world, vm, 'Running', 'running');
      await world.legacyOf('xend.domain.suspend', vm);
    },
  }),
  method({
    name: 'resume',
    doc: 'Brings a suspended machine back.',
    params: [PAUSED, FORCE],
    async run(world, _, vm, paused) {
      await require(world, vm, 'Suspended', 'suspended');
      await world.legacyOf('xend.domain.resume', vm, paused);
    },
  }),
  method({
    name: 'save',
    doc: 'Saves a running machine to a file.',
    params: [
      { name: 'file', kind: 'string' },
      { name: 'checkpoint', kind: 'bool' },
    ],
    async run(world, _, vm, file, checkpoint) {
      await require(world, vm, 'Running', 'running');
      await world.legacyOf('xend.domain.save', vm, file, checkpoint);
    },
  }),
  func({
    name: 'restore',
    doc: 'Brings a machine back from a file.',
    params: [
      { name: 'file', kind: 'string' },
      { name: 'paused', kind: 'bool' },
    ],
    async run(world, _, file, paused) {
      if (!world.enabled) throw notAllowed('the host is disabled');
      await world.legacy('xend.domain.restore', file, paused);
    },
  }),
  method({
    name: 'migrate',
    doc: 'Moves a running machine to another host.',
    params: [
      { name: 'host', kind: 'string' },
      { name: 'live', kind: 'bool' },
      { name: 'options', kind: 'struct' },
    ],
    async run(world, _, vm, host, live, options) {
      await require(world, vm, 'Running', 'running');
      const { port = 0, node = -1, ssl = null, change_home_server: home = false } = options;
      await world.legacyOf('xend.domain.migrate', vm, host, live, port, node, ssl, home);
    },
  }),
];

const making = [
  func({
    name: 'create',
    doc: 'Makes a managed machine, halted and without devices, from a record.',
    returns: 'VM',
    params: [{ name: 'record', kind: 'struct' }],
    async run(world, _, record) {
      const { config, extras } = parseVmRecord(record);
      if (world.manager.all().some((vm) => vm.uuid === config.uuid)) throw uniqueName(config.uuid, 'VM');
      const vm = await world.manager.define(config);
      await setExtras(world, vm, extras);
      return vm.uuid;
    },
  }),
  method({
    name: 'destroy',
    doc: 'Forgets a halted machine.',
    async run(world, _, vm) {
      await require(world, vm, 'Halted', 'halted', 'shutdown', 'suspended');
      if (vm.live) throw badPowerState(vm.uuid, 'Halted', powerState(vm));
      await world.legacyOf('xend.domain.delete', vm);
      await dropExtras(world, vm.uuid);
      await dropConsoles(world, vm.uuid);
    },
  }),
  method({
    name: 'clone',
    doc: 'Never was supported.',
    params: [{ name: 'name', kind: 'any', optional: true }],
    returns: 'VM',
    run() {
      throw unsupported();
    },
  }),
];

const live = [
  method({
    name: 'send_sysrq',
    doc: 'Sends a magic SysRq key to the guest.',
    params: [{ name: 'key', kind: 'string' }],
    async run(world, _, vm, key) {
      await require(world, vm, 'Running', 'running', 'paused');
      await operations.sendSysrq(world.manager, vm, key);
    },
  }),
  method({
    name: 'send_trigger',
    doc: 'Sends nmi, reset, init, power or s3resume to a vCPU.',
    params: [
      { name: 'trigger', kind: 'string' },
      { name: 'vcpu', kind: 'int' },
    ],
    async run(world, _, vm, trigger, vcpu) {
      await require(world, vm, 'Running', 'running', 'paused');
      await operations.sendTrigger(world.manager, vm, vm.name, trigger, vcpu);
    },
  }),
  method({
    name: 'set_VCPUs_number_live',
    doc: 'Sets how many vCPUs the guest should have online.',
    params: [VALUE],
    run: (world, _, vm, count) => operations.setVcpuCount(world.manager, vm, count),
  }),
  method({
    name: 'add_to_VCPUs_params_live',
    doc: 'Sets weight, cap or cpumapN, of the running domain too.',
    params: [
      { name: 'key', kind: 'string' },
      { name: 'value', kind: 'string' },
    ],
    async run(world, call, vm, key, value) {
      const field = vmFields.find(({ name }) => name === 'VCPUs_params');
      await field?.set?.(world, vm, { ...vcpuParams(vm.config), [key]: value } as never, call);
    },
  }),
  method({
    name: 'set_memory_dynamic_max_live',
    doc: 'Sets the memory that the guest should use, bytes: it balloons to it.',
    params: [VALUE],
    run: (world, _, vm, bytes) => operations.setMemoryTarget(world.manager, vm, mebibytesOf(bytes)),
  }),
  method({
    name: 'set_memory_dynamic_min_live',
    doc: 'Sets the least memory that the guest should use, bytes, and has it balloon to it.',
    params: [VALUE],
    async run(world, _, vm, bytes) {
      await operations.setMemoryTarget(world.manager, vm, mebibytesOf(bytes));
      await setExtras(world, vm, { memory_dynamic_min: bytes });
    },
  }),
  method({
    name: 'cpu_pool_migrate',
    doc: 'Moves a machine to another CPU pool.',
    params: [{ name: 'pool', kind: 'ref' }],
    async run(world, _, vm, ref) {
      const pool = world.manager.pools.byUuid(ref);
      if (!pool) throw handleInvalid('cpu_pool', ref);
      if (vm.live?.domid === 0) throw notAllowed('could not move Domain-0');
      try {
        await world.legacyOf('xend.cpu_pool.migrate', vm, pool.name);
      } catch (error) {
        if (error instanceof XendError) throw internalError('could not move domain');
        throw error;
      }
    },
  }),
  setSecurityLabel(method),
];

/** Machines as the hypervisor has them now. */
async function machines(world: World): Promise<Vm[]> {
  await world.manager.refresh();
  return world.manager.all();
}

export const findVm = (world: World, ref: string): Vm | undefined =>
  world.manager.all().find(({ uuid }) => uuid === ref);

export const vm = defineClass<Vm>({
  name: 'VM',
  doc: 'A virtual machine.',
  all: machines,
  async find(world, ref) {
    await world.manager.refreshOf(ref);
    return findVm(world, ref);
  },
  refOf: ({ uuid }) => uuid,
  label: ({ name }) => name,
  fields: vmFields,
  operations: [...life, ...making, ...live],
});
