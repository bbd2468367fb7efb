/** Schedulers, shadow page tables and I/O ports of one machine (Xen 4.4 `XendDomain.py`); the texts are its own. */
import type { SedfParameters } from '@xenhost/libxenctrl';
import type { Sxp } from '@xenhost/sxp';
import { checkSchedule } from '../config/parse.ts';
import { XendError } from '../errors.ts';
import type { DomainManager } from './manager.ts';
import type { Live, Vm } from './vm.ts';
import { asXendError } from './xc-error.ts';

/** XEN_DOMCTL_SHADOW_OP_{GET,SET}_ALLOCATION. */
const SHADOW_GET_ALLOCATION = 30;
const SHADOW_SET_ALLOCATION = 31;
/** Weight 0 of a scheduler's domctl: leave it. */
const KEEP_WEIGHT = 0;

/** The domain while the machine runs or is paused: settings go to it then, else only to the configuration. */
const runningDomain = (vm: Vm): Live | undefined =>
  vm.state === 'running' || vm.state === 'paused' ? vm.live : undefined;

/** 4.4 handed no domain to the hypervisor's bindings, which refused it. */
function domidOf(vm: Vm): number {
  if (!vm.live) throw new XendError('an integer is required');
  return vm.live.domid;
}

export async function getCredit(manager: DomainManager, vm: Vm): Promise<{ weight: number; cap: number }> {
  const live = runningDomain(vm);
  if (!live) return { weight: vm.config.cpuWeight, cap: vm.config.cpuCap };
  const { weight, cap } = await asXendError(manager.ports.xc.schedCreditDomainGet(live.domid));
  return { weight, cap };
}

/** Sets what is given; a value left out stays. */
export async function setCredit(
  manager: DomainManager,
  vm: Vm,
  weight: number | undefined,
  cap: number | undefined,
): Promise<void> {
  const { cpuWeight, cpuCap, vcpus } = vm.config;
  checkSchedule(weight ?? cpuWeight, cap ?? 0, vcpus);
  const wanted = { weight: weight ?? cpuWeight, cap: cap ?? cpuCap };
  const live = runningDomain(vm);
  if (live) {
    const { xc } = manager.ports;
    const current = await asXendError(xc.schedCreditDomainGet(live.domid));
    Object.assign(wanted, { weight: weight ?? current.weight, cap: cap ?? current.cap });
    await asXendError(xc.schedCreditDomainSet(live.domid, wanted));
  }
  vm.config = { ...vm.config, cpuWeight: wanted.weight, cpuCap: wanted.cap };
  await manager.save(vm);
}

export async function getCredit2(manager: DomainManager, vm: Vm): Promise<{ weight: number }> {
  const live = runningDomain(vm);
  if (!live) return { weight: vm.config.cpuWeight };
  return { weight: (await asXendError(manager.ports.xc.schedCredit2DomainGet(live.domid))).weight };
}

export async function setCredit2(manager: DomainManager, vm: Vm, weight: number | undefined): Promise<void> {
  if (weight !== undefined && (weight < 1 || weight > 65535)) throw new XendError('weight is out of range');
  const live = runningDomain(vm);
  if (live) await asXendError(manager.ports.xc.schedCredit2DomainSet(live.domid, weight ?? KEEP_WEIGHT));
  if (weight !== undefined) vm.config = { ...vm.config, cpuWeight: weight };
  await manager.save(vm);
}

export async function getSedf(manager: DomainManager, vm: Vm): Promise<Sxp & readonly Sxp[]> {
  const domid = domidOf(vm);
  const { period, slice, latency, extratime, weight } = await asXendError(manager.ports.xc.sedfDomainGet(domid));
  return [
    'sedf',
    ['domid', domid],
    ['period', period],
    ['slice', slice],
    ['latency', latency],
    ['extratime', extratime],
    ['weight', weight],
  ];
}

export async function setSedf(manager: DomainManager, vm: Vm, parameters: SedfParameters): Promise<void> {
  const domid = domidOf(vm);
  for (const value of Object.values(parameters) as number[]) {
    if (value < 0) throw new XendError("(22, 'Invalid argument')");
  }
  await asXendError(manager.ports.xc.sedfDomainSet(domid, parameters));
}

export async function shadowControl(manager: DomainManager, vm: Vm, op: number): Promise<void> {
  await asXendError(manager.ports.xc.shadowControl(domidOf(vm), op >>> 0));
}

/** MiB that there are, after setting them when `mib` is given. */
export async function shadowMemory(manager: DomainManager, vm: Vm, mib: number | undefined): Promise<number> {
  const op = mib === undefined ? SHADOW_GET_ALLOCATION : SHADOW_SET_ALLOCATION;
  return asXendError(manager.ports.xc.shadowControl(domidOf(vm), op, (mib ?? 0) >>> 0));
}

const MAX_PORT = 0xffff;

export async function ioportRange(
  manager: DomainManager,
  vm: Vm,
  first: number,
  last: number,
  allow: boolean,
): Promise<void> {
  const domid = domidOf(vm);
  if (first < 0 || last > MAX_PORT || last < first) throw new XendError("(22, 'Invalid argument')");
  await asXendError(manager.ports.xc.domainIoportPermission(domid, first, last - first + 1, allow));
}
