/**
 * What single calls do to one machine. Each checks the machine's state as Xen 4.4 `XendDomain.py` and
 * `XendDomainInfo.py` do, with their texts, and throws XendError; `asked` is the name or id that the caller gave.
 */
import { XenError } from '@xenhost/base';
import { float, type Sxp, type SxpList } from '@xenhost/sxp';
import { cpuMask, cpusOfMask } from '../config/cpus.ts';
import { XendError, messageOf } from '../errors.ts';
import { MAX_MEMORY_MIB, MAX_VCPUS, SHUTDOWN_TIMEOUT_S } from '../limits.ts';
import { RESTART_COUNT, UNRESPONSIVE } from '../store/exit-notes.ts';
import { availabilityNodes } from '../store/nodes.ts';
import { suspend } from './checkpoint.ts';
import { waitForVmDevices } from './device-operations.ts';
import type { DomainManager } from './manager.ts';
import { domainPath, type Live, type PowerStateName, type Vm } from './vm.ts';

/** pCPUs that a stored machine without pins may use, as Xen 4.4 shows it. */
const ANY_CPU = Array.from({ length: 64 }, (_, cpu) => cpu);

/** The machine's domain, when the machine is in one of these states; otherwise "is not started". */
function started(vm: Vm, asked: string, states: readonly PowerStateName[]): Live {
  if (!vm.live || !states.includes(vm.state)) throw new XendError(`Domain '${asked}' is not started`);
  return vm.live;
}

const notDom0 = (vm: Vm, what: string, asked: string): void => {
  if (vm.live?.domid === 0) throw new XendError(`Cannot ${what} privileged domain ${asked}`);
};

/** Tells the hypervisor's refusals in one line. */
async function refused<T>(what: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof XenError) throw new XendError(`${what}: ${error.message}`, { cause: error });
    throw error;
  }
}

export async function pause(manager: DomainManager, vm: Vm, asked: string): Promise<void> {
  notDom0(vm, 'pause', asked);
  await manager.refreshOf(vm);
  const live = started(vm, asked, ['running', 'paused', 'crashed']);
  // The hypervisor counts pauses and xend does not: paused is paused.
  if (live.info.paused) return;
  await refused('Domain unable to be paused', manager.ports.xc.domainPause(live.domid));
  live.info = { ...live.info, paused: true };
  manager.ports.log.info('XendDomain', `Domain ${vm.name} (${live.domid}) paused.`);
}

export async function unpause(manager: DomainManager, vm: Vm, asked: string): Promise<void> {
  notDom0(vm, 'unpause', asked);
  await manager.refreshOf(vm);
  const live = started(vm, asked, ['running', 'paused']);
  if (live.info.paused) {
    await refused('Domain unable to be unpaused', manager.ports.xc.domainUnpause(live.domid));
    live.info = { ...live.info, paused: false };
  }
  manager.ports.log.info('XendDomain', `Domain ${vm.name} (${live.domid}) unpaused.`);
}

/** Gives a halted stored machine a domain, waits for its devices, and unpauses it unless told not to. */
export async function start(manager: DomainManager, vm: Vm, asked: string, paused: boolean): Promise<void> {
  await vm.lock.run(async () => {
    if (vm.live || vm.state !== 'halted') throw new XendError('Domain is already running');
    await manager.startStored(vm);
  });
  try {
    await waitForVmDevices(manager, vm);
    if (!paused) await unpause(manager, vm, asked);
  } catch (error) {
    manager.ports.log.warn('XendDomain', `Failed to setup devices for ${vm.name}: ${messageOf(error)}`);
    await manager.destroy(vm);
    throw error;
  }
}

/** on_xend_stop of a running machine. */
export async function stopWithXend(manager: DomainManager, vm: Vm): Promise<void> {
  const { log } = manager.ports;
  switch (vm.config.onXendStop) {
    case 'shutdown':
      await shutdown(manager, vm, 'poweroff');
      return;
    case 'suspend':
      await suspend(manager, vm, vm.name);
      return;
    case 'destroy':
      await manager.destroy(vm);
      return;
    default:
      log.info('XendDomain', `Domain ${vm.name} continues to run.`);
  }
}

const SHUTDOWN_REASONS = ['poweroff', 'reboot', 'suspend', 'crash', 'halt'];

/** Asks the guest: it reads control/shutdown, and obeys or not. */
export async function shutdown(manager: DomainManager, vm: Vm, reason: string): Promise<void> {
  await manager.refreshOf(vm);
  const live = vm.live;
  if (!live || vm.state === 'halted' || vm.state === 'shutdown') throw new XendError('Domain cannot be shutdown');
  if (live.domid === 0) throw new XendError('Domain 0 cannot be shutdown');
  if (!SHUTDOWN_REASONS.includes(reason)) throw new XendError(`Invalid reason: ${reason}`);
  const { store, log, clock } = manager.ports;
  await store.write(`${domainPath(live.domid)}/control/shutdown`, reason);
  live.shutdownStartS = Number(clock.wallNs() / 1_000_000_000n);
  log.info('XendDomainInfo', `Domain ${vm.name} (${live.domid}) asked to shut down: ${reason}.`);
}

/** Marks a guest that has ignored control/shutdown for too long; called with each look at the domains. */
export async function markUnresponsive(manager: DomainManager, vm: Vm): Promise<void> {
  const live = vm.live;
  if (live?.shutdownStartS === undefined) return;
  const { clock, store, log } = manager.ports;
  if (Number(clock.wallNs() / 1_000_000_000n) - live.shutdownStartS < SHUTDOWN_TIMEOUT_S) return;
  live.shutdownStartS = undefined;
  log.info('XendDomainInfo', `Domain shutdown timeout expired: name=${vm.name} id=${live.domid}`);
  await store.write(`${domainPath(live.domid)}/${UNRESPONSIVE}`, 'True');
}

/** Destroy, then create again from the same configuration, running. */
export async function reset(manager: DomainManager, vm: Vm, asked: string): Promise<void> {
  notDom0(vm, 'reset', asked);
  await manager.refreshOf(vm);
  started(vm, asked, ['running', 'paused']);
  await vm.lock.run(async () => {
    if (vm.live) await manager.restartLocked(vm);
  });
}

export async function setMemoryTarget(manager: DomainManager, vm: Vm, targetMiB: number): Promise<void> {
  checkMebibytes(targetMiB, 'memory_dynamic_max');
  const { store } = manager.ports;
  const live = vm.live;
  if (live?.domid === 0) {
    if (targetMiB < vm.config.memoryMiB && targetMiB < manager.settings.dom0MinMemMiB) {
      throw new XendError('memory_dynamic_max too small');
    }
  } else if (targetMiB > vm.config.maxmemMiB) {
    throw new XendError('memory_dynamic_max must be less than or equal to memory_static_max');
  }
  vm.config = { ...vm.config, memoryMiB: targetMiB };
  if (live) {
    await store.write(`${vm.vmPath}/memory`, targetMiB);
    await store.write(`${domainPath(live.domid)}/memory/target`, targetMiB * 1024);
  }
  await manager.save(vm);
}

export async function setMemoryMaximum(manager: DomainManager, vm: Vm, limitMiB: number): Promise<void> {
  checkMebibytes(limitMiB, 'memory_static_max');
  if (limitMiB < vm.config.memoryMiB) {
    throw new XendError('memory_dynamic_max must be less than or equal to memory_static_max');
  }
  if (vm.live) {
    await refused('Cannot set the maximum memory', manager.ports.xc.domainSetmaxmem(vm.live.domid, limitMiB * 1024));
    await manager.ports.store.write(`${vm.vmPath}/maxmem`, limitMiB);
  }
  vm.config = { ...vm.config, maxmemMiB: limitMiB };
  await manager.save(vm);
}

function checkMebibytes(mib: number, what: string): void {
  if (mib <= 0) throw new XendError(`${what} must be greater than zero`);
  if (mib > MAX_MEMORY_MIB) throw new XendError(`${what} must be at most ${MAX_MEMORY_MIB} MiB`);
}

export async function setVcpuCount(manager: DomainManager, vm: Vm, count: number): Promise<void> {
  if (count <= 0) throw new XendError('Zero or less VCPUs is invalid');
  if (count > MAX_VCPUS) throw new XendError(`Cannot have ${count} VCPUs: the limit is ${MAX_VCPUS}`);
  const live = vm.live;
  if (live) {
    if (count > vm.config.vcpus) throw new XendError('Cannot set vcpus greater than max vcpus on running domain');
    vm.config = { ...vm.config, vcpuAvail: (1n << BigInt(count)) - 1n };
    const { store } = manager.ports;
    if (live.domid !== 0) await store.write(`${vm.vmPath}/vcpu_avail`, vm.config.vcpuAvail.toString());
    for (const [name, value] of Object.entries(availabilityNodes(vm.config))) {
      await store.write(`${domainPath(live.domid)}/${name}`, value);
    }
  } else {
    const cpus = Array.from({ length: count }, (_, vcpu) => vm.config.cpus[vcpu] ?? []);
    vm.config = { ...vm.config, vcpus: count, vcpuAvail: (1n << BigInt(count)) - 1n, cpus };
  }
  manager.ports.log.info('XendDomainInfo', `Set VCPU count on domain ${vm.name} to ${count}`);
  await manager.save(vm);
}

export async function vcpuInfo(manager: DomainManager, vm: Vm): Promise<SxpList> {
  const { xc } = manager.ports;
  const live = vm.live;
  const head: Sxp[] = [
    'domain',
    ['domid', live?.domid ?? null],
    ['name', vm.name],
    ['vcpu_count', live ? vcpuCount(live) : vm.config.vcpus],
  ];
  if (!live) {
    const rows = vm.config.cpus.map((cpus, number) =>
      vcpuRow(
        number,
        { online: false, blocked: false, running: false, cpuTimeNs: 0n, cpu: -1 },
        cpus.length > 0 ? cpus : ANY_CPU,
      ),
    );
    return [...head, ...rows];
  }
  const nrCpus = (await xc.physinfo()).maxCpuId + 1;
  const rows = await Promise.all(
    Array.from({ length: vcpuCount(live) }, async (_, number) => {
      const [info, affinity] = await Promise.all([
        xc.vcpuGetinfo(live.domid, number),
        xc.vcpuGetaffinity(live.domid, number),
      ]);
      return vcpuRow(number, info, cpusOfMask(affinity, nrCpus));
    }),
  );
  return [...head, ...rows];
}

const vcpuCount = (live: Live): number => live.info.maxVcpuId + 1;

function vcpuRow(
  number: number,
  info: { online: boolean; blocked: boolean; running: boolean; cpuTimeNs: bigint; cpu: number },
  cpumap: readonly number[],
): Sxp {
  return [
    'vcpu',
    ['number', number],
    ['online', Number(info.online)],
    ['blocked', Number(info.blocked)],
    ['running', Number(info.running)],
    ['cpu_time', float(Number(info.cpuTimeNs) / 1e9)],
    ['cpu', info.cpu],
    ['cpumap', cpumap],
  ];
}

/** `which` is a vCPU's number, or undefined for all. */
export async function pinCpu(
  manager: DomainManager,
  vm: Vm,
  which: number | undefined,
  cpus: readonly number[],
): Promise<void> {
  const count = vm.live ? vcpuCount(vm.live) : vm.config.vcpus;
  const vcpus = which === undefined ? Array.from({ length: count }, (_, vcpu) => vcpu) : [which];
  const pins = vm.config.cpus.map((old) => [...old]);
  for (const vcpu of vcpus) {
    try {
      if (vcpu >= count) throw new XendError(`no such vcpu, the domain has ${count}`);
      if (vm.live) await manager.ports.xc.vcpuSetaffinity(vm.live.domid, vcpu, cpuMask(cpus));
    } catch (error) {
      throw new XendError(`Cannot pin vcpu: ${vcpu} to cpu: [${cpus.join(', ')}] - ${messageOf(error)}`, {
        cause: error,
      });
    }
    pins[vcpu] = [...cpus];
  }
  vm.config = { ...vm.config, cpus: pins };
  await manager.save(vm);
}

export async function sendSysrq(manager: DomainManager, vm: Vm, key: string): Promise<void> {
  const live = started(vm, vm.name, ['running', 'paused']);
  if (!/^.$/su.test(key)) throw new XendError(`${key} is not convertible to a character`);
  await manager.ports.store.write(`${domainPath(live.domid)}/control/sysrq`, key);
}

const TRIGGERS: Readonly<Record<string, number>> = { nmi: 0, reset: 1, init: 2, power: 3, s3resume: 4 };

export async function sendTrigger(
  manager: DomainManager,
  vm: Vm,
  asked: string,
  name: string,
  vcpu: number,
): Promise<void> {
  await manager.refreshOf(vm);
  const live = started(vm, asked, ['running', 'paused']);
  const trigger = TRIGGERS[name.toLowerCase()];
  if (trigger === undefined) throw new XendError(`Invalid trigger: ${name}`);
  await refused('Cannot send the trigger', manager.ports.xc.domainSendTrigger(live.domid, trigger, vcpu));
}

export async function restartCount(manager: DomainManager, vm: Vm): Promise<string> {
  return (await manager.ports.store.tryRead(`${vm.vmPath}/${RESTART_COUNT}`)) ?? '0';
}

export { setCredit } from './cpu-operations.ts';
export { addDevice, destroyDevice, waitForVmDevices } from './device-operations.ts';
