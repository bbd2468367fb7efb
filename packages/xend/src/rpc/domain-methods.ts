/** xend.domain and xend.domain.*: life, memory and CPUs of single machines (facts, section 3). */
import { parseVmConfig } from '../config/parse.ts';
import * as operations from '../domain/operations.ts';
import { PowerState, type PowerStateName } from '../domain/vm.ts';
import { vmSxp } from '../domain/view.ts';
import { XendError } from '../errors.ts';
import { DOM, INVALID_DOMAIN, XEND_ERROR, method, vmOf, type Method, type MethodContext } from './method.ts';

const STATE_NAMES = Object.keys(PowerState) as PowerStateName[];
const DOM_FAULTS = [INVALID_DOMAIN, XEND_ERROR];

/** `all`, a state's name in any case, or its number. */
function parseState(state: unknown): PowerStateName | 'all' {
  const name = typeof state === 'number' ? STATE_NAMES[state] : String(state).toLowerCase();
  if (name === 'all') return name;
  const known = STATE_NAMES.find((candidate) => candidate === name);
  // Xen 4.4 compares names and finds no domain in a state that there is none of.
  return known ?? 'unknown';
}

async function listed({ manager }: MethodContext, detail: boolean, state: unknown, full: boolean) {
  await manager.refresh();
  const vms = manager.list(parseState(state));
  for (const vm of vms) await operations.markUnresponsive(manager, vm);
  return vms.map((vm) => (detail ? vmSxp(vm, full, manager.settings.vifScript) : vm.name));
}

export const domainMethods: readonly Method[] = [
  method({
    name: 'xend.domain',
    doc: 'One domain as SXP; with full, its devices too. Looks at the hypervisor first.',
    params: [DOM, { name: 'full', type: 'bool', default: false }],
    returns: 'array',
    faults: [INVALID_DOMAIN],
    async run(context, dom, full) {
      await context.manager.refreshOf(dom);
      return vmSxp(await vmOf(context, dom), full, context.manager.settings.vifScript);
    },
  }),
  method({
    name: 'xend.domains',
    doc: 'The running domains, sorted by name: SXP of each, or names only.',
    params: [
      { name: 'detail', type: 'bool', default: true },
      { name: 'full', type: 'bool', default: false },
    ],
    returns: 'array',
    run: (context, detail, full) => listed(context, detail, 'running', full),
  }),
  method({
    name: 'xend.domains_with_state',
    doc: 'The domains in a state (all, running, paused, halted, suspended, shutdown, crashed, unknown, or 0 to 6).',
    params: [
      { name: 'detail', type: 'bool' },
      { name: 'state', type: 'any' },
      { name: 'full', type: 'bool' },
    ],
    returns: 'array',
    run: listed,
  }),
  method({
    name: 'xend.domain.create',
    doc: 'Creates a domain from a configuration and leaves it paused.',
    params: [{ name: 'config', type: 'sxp' }],
    returns: 'array',
    faults: [XEND_ERROR],
    run: async ({ manager }, config) =>
      vmSxp(await manager.create(parseVmConfig(config)), true, manager.settings.vifScript),
  }),
  method({
    name: 'xend.domain.new',
    doc: 'Adds a domain to those that xend manages; it does not start.',
    params: [{ name: 'config', type: 'sxp' }],
    returns: 'nil',
    faults: [XEND_ERROR],
    async run({ manager }, config) {
      await manager.define(parseVmConfig(config));
      return null;
    },
  }),
  method({
    name: 'xend.domain.start',
    doc: 'Starts a managed domain, waits for its devices, and unpauses it unless told not to.',
    params: [DOM, { name: 'paused', type: 'bool', default: true }],
    returns: 'nil',
    faults: DOM_FAULTS,
    async run(context, dom, paused) {
      const { manager } = context;
      await manager.refresh();
      await operations.start(manager, await vmOf(context, dom), dom, paused);
      return null;
    },
  }),
  method({
    name: 'xend.domain.delete',
    doc: 'Removes a halted domain from those that xend manages.',
    params: [DOM],
    returns: 'nil',
    faults: DOM_FAULTS,
    async run(context, dom) {
      const vm = await vmOf(context, dom);
      await vm.lock.run(async () => {
        if (vm.live || vm.state !== 'halted') throw new XendError('Domain is not halted.');
        await context.manager.undefine(vm);
      });
      return null;
    },
  }),
  method({
    name: 'xend.domain.configure',
    doc: 'Never was supported.',
    params: [{ name: 'config', type: 'any' }],
    returns: 'nil',
    faults: [XEND_ERROR],
    run: () => Promise.reject(new XendError('Unsupported')),
  }),
  method({
    name: 'xend.domain.pause',
    doc: 'Stops a domain from being scheduled; with state, answers the power state it was in.',
    params: [DOM, { name: 'state', type: 'bool', default: false }],
    returns: 'nil',
    faults: DOM_FAULTS,
    async run(context, dom, wantState) {
      const vm = await vmOf(context, dom);
      const before = vm.state;
      await operations.pause(context.manager, vm, dom);
      return wantState ? PowerState[before] : null;
    },
  }),
  method({
    name: 'xend.domain.unpause',
    doc: 'Lets a paused domain run.',
    params: [DOM],
    returns: 'nil',
    faults: DOM_FAULTS,
    async run(context, dom) {
      await operations.unpause(context.manager, await vmOf(context, dom), dom);
      return null;
    },
  }),
  method({
    name: 'xend.domain.setpauseflag',
    doc: 'Remembers whether an administrator paused the domain.',
    params: [DOM, { name: 'flag', type: 'bool', default: false }],
    returns: 'nil',
    async run({ manager }, dom, flag) {
      const vm = manager.find(dom);
      if (vm) vm.pausedByAdmin = flag;
      return Promise.resolve(null);
    },
  }),
  method({
    name: 'xend.domain.getpauseflag',
    doc: 'Whether an administrator paused the domain.',
    params: [DOM],
    returns: 'boolean',
    run: ({ manager }, dom) => Promise.resolve(manager.find(dom)?.pausedByAdmin ?? false),
  }),
  method({
    name: 'xend.domain.destroy',
    doc: 'Ends a domain at once.',
    params: [DOM],
    returns: 'nil',
    faults: DOM_FAULTS,
    async run(context, dom) {
      const vm = await vmOf(context, dom);
      if (vm.live?.domid === 0) throw new XendError(`Cannot destroy privileged domain ${dom}`);
      await context.manager.destroy(vm);
      return null;
    },
  }),
  method({
    name: 'xend.domain.shutdown',
    doc: 'Asks a domain to shut down: poweroff, reboot, suspend, crash or halt.',
    params: [DOM, { name: 'reason', type: 'string' }],
    returns: 'nil',
    faults: DOM_FAULTS,
    async run(context, dom, reason) {
      await operations.shutdown(context.manager, await vmOf(context, dom), reason);
      return null;
    },
  }),
  method({
    name: 'xend.domain.reset',
    doc: 'Destroys a domain and creates it again from the same configuration.',
    params: [DOM],
    returns: 'nil',
    faults: DOM_FAULTS,
    async run(context, dom) {
      await operations.reset(context.manager, await vmOf(context, dom), dom);
      return null;
    },
  }),
  method({
    name: 'xend.domain.setName',
    doc: 'Renames a domain.',
    params: [DOM, { name: 'name', type: 'string' }],
    returns: 'nil',
    faults: DOM_FAULTS,
    async run(context, dom, name) {
      await context.manager.rename(await vmOf(context, dom), name);
      return null;
    },
  }),
  method({
    name: 'xend.domain.setMemoryTarget',
    doc: 'Sets how much memory the guest should use, MiB: it balloons to it.',
    params: [DOM, { name: 'target', type: 'int' }],
    returns: 'nil',
    faults: DOM_FAULTS,
    async run(context, dom, target) {
      await operations.setMemoryTarget(context.manager, await vmOf(context, dom), target);
      return null;
    },
  }),
  method({
    name: 'xend.domain.maxmem_set',
    doc: 'Sets how much memory the domain may have at most, MiB.',
    params: [DOM, { name: 'limit', type: 'int' }],
    returns: 'nil',
    faults: DOM_FAULTS,
    async run(context, dom, limit) {
      await operations.setMemoryMaximum(context.manager, await vmOf(context, dom), limit);
      return null;
    },
  }),
  method({
    name: 'xend.domain.setVCpuCount',
    doc: 'Sets how many vCPUs the guest should have online.',
    params: [DOM, { name: 'vcpus', type: 'int' }],
    returns: 'nil',
    faults: DOM_FAULTS,
    async run(context, dom, vcpus) {
      await operations.setVcpuCount(context.manager, await vmOf(context, dom), vcpus);
      return null;
    },
  }),
  method({
    name: 'xend.domain.getVCPUInfo',
    doc: 'State, time, place and affinity of each vCPU.',
    params: [DOM],
    returns: 'array',
    faults: DOM_FAULTS,
    async run(context, dom) {
      await context.manager.refreshOf(dom);
      return operations.vcpuInfo(context.manager, await vmOf(context, dom));
    },
  }),
  method({
    name: 'xend.domain.pincpu',
    doc: 'Sets the CPUs that a vCPU, or all of them, may run on.',
    params: [DOM, { name: 'vcpu', type: 'string' }, { name: 'cpumap', type: 'cpus' }],
    returns: 'int',
    faults: DOM_FAULTS,
    async run(context, dom, vcpu, cpus) {
      const vm = await vmOf(context, dom);
      const all = vcpu.toLowerCase() === 'all';
      if (!all && !/^\d{1,9}$/.test(vcpu)) throw new Error(`invalid literal for int() with base 10: '${vcpu}'`);
      await operations.pinCpu(context.manager, vm, all ? undefined : Number(vcpu), cpus);
      return 0;
    },
  }),
  method({
    name: 'xend.domain.send_sysrq',
    doc: 'Sends a magic SysRq key to the guest.',
    params: [DOM, { name: 'key', type: 'string' }],
    returns: 'nil',
    faults: DOM_FAULTS,
    async run(context, dom, key) {
      await operations.sendSysrq(context.manager, await vmOf(context, dom), key);
      return null;
    },
  }),
  method({
    name: 'xend.domain.send_trigger',
    doc: 'Sends nmi, reset, init, power or s3resume to a vCPU.',
    params: [DOM, { name: 'trigger', type: 'string' }, { name: 'vcpu', type: 'int', default: 0 }],
    returns: 'nil',
    faults: DOM_FAULTS,
    async run(context, dom, trigger, vcpu) {
      await operations.sendTrigger(context.manager, await vmOf(context, dom), dom, trigger, vcpu);
      return null;
    },
  }),
  method({
    name: 'xend.domain.getRestartCount',
    doc: 'How often the domain was restarted since it was created.',
    params: [DOM],
    returns: 'string',
    faults: DOM_FAULTS,
    run: async (context, dom) => operations.restartCount(context.manager, await vmOf(context, dom)),
  }),
];
