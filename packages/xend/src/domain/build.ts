/**
 * Gives a machine a domain: creates it in the hypervisor, builds the guest into it, tells xenstore, leaves it paused. Answers
 * to Xen 4.4 `XendDomainInfo.py` (_constructDomain, _initDomain). Either all of it is done, or nothing is left.
 */
import { Errno, XenError } from '@xenhost/base';
import { DomBuildError, type BuiltDomain } from '@xenhost/libxenctrl';
import { cpuMask } from '../config/cpus.ts';
import type { VmConfig } from '../config/types.ts';
import { createDevice, connectedDevices, removeDevice, type DeviceModules } from '../device/controller.ts';
import type { DeviceModels } from '../device-model/device-models.ts';
import { XendError, messageOf } from '../errors.ts';
import type { DeviceNumbers } from '../image/device-numbers.ts';
import { DESTROY_WAIT_MS, MAX_IMAGE_BYTES, MEMORY_POLL_MS, MEMORY_WAIT_MS } from '../limits.ts';
import { DEFAULT_SETTINGS } from '../options/settings.ts';
import type { BuildPvDomain, XendPorts } from '../ports.ts';
import { CREATION_IN_PROGRESS } from '../store/exit-notes.ts';
import { createDomainNodes, removeTree, writeDomainDetails, writeVmDetails } from '../store/nodes.ts';
import { applyCpuid } from './cpuid.ts';
import { UndoStack } from './undo.ts';
import { domainPath, type Live, type Vm } from './vm.ts';

const KIB_PER_PAGE = 4;
/** What a domain costs beyond its own memory (its structures, its page tables in the builder), KiB. */
const DOMAIN_OVERHEAD_KIB = 1024;
/** TSC mode that needs no call: the hypervisor's own default. */
const TSC_MODE_DEFAULT = 0;

/** In place of a kernel that is in the domain's memory already. */
const NOTHING = new Uint8Array(0);

export interface BuildModules extends XendPorts, DeviceModules {
  /** The hypervisor's id of the pool that a configuration names. Throws XendError. */
  poolId(name: string): Promise<number>;
  readonly screens: Pick<DeviceModels, 'start' | 'stop'>;
  /** Puts a saved guest's memory into the domain, in place of a kernel. */
  readonly restore?: BuildPvDomain | undefined;
  /** What its devices were called, by UUID; the others are numbered anew. */
  readonly numbers?: DeviceNumbers | undefined;
}

/** Creates and builds; on success `vm.live` is set. Throws XendError and leaves nothing behind. */
export async function buildDomain(vm: Vm, modules: BuildModules): Promise<Live> {
  const undo = new UndoStack((what, error) => {
    modules.log.error('XendDomainInfo', `${vm.name}: cannot ${what} after a failed creation`, error);
  });
  try {
    return await build(vm, modules, undo);
  } catch (error) {
    vm.live = undefined;
    await undo.unwind();
    modules.log.error('XendDomainInfo', `Creating domain ${vm.name} failed`, error);
    throw asXendError(vm, error);
  }
}

async function build(vm: Vm, modules: BuildModules, undo: UndoStack): Promise<Live> {
  const { config } = vm;
  const { xc, store, log } = modules;
  if (config.image.type === 'hvm') {
    throw new XendError(
      'HVM guest support is unavailable: is VT/AMD-V supported by your CPU and enabled in your BIOS?',
    );
  }
  const isNew = modules.restore === undefined;
  const kernel = isNew ? await readImage(modules, config.image.kernel, 'Kernel image') : NOTHING;
  const ramdisk =
    isNew && config.image.ramdisk ? await readImage(modules, config.image.ramdisk, 'Kernel ramdisk') : undefined;
  const poolId = await modules.poolId(config.poolName);
  const memoryKiB = config.memoryMiB * 1024;
  await requireMemory(modules, config);

  undo.push('remove its machine nodes', () => removeTree(store, vm.vmPath));
  await store.write(`${vm.vmPath}/${CREATION_IN_PROGRESS}`, 'True');
  const domid = await xc.domainCreate({ uuid: config.uuid, maxVcpus: config.vcpus });
  undo.push('destroy the domain', () => destroyDomain(modules, domid));
  if (poolId !== 0) await xc.cpupoolMovedomain(poolId, domid);
  const tscMode = Number(config.image.platform.get('tsc_mode') ?? TSC_MODE_DEFAULT);
  if (tscMode !== TSC_MODE_DEFAULT) {
    await xc.domainSetTscInfo(domid, { mode: tscMode, gtscKhz: 0, incarnation: 0, elapsedNs: 0n });
  }
  await applyCpuid(xc, domid, config.cpuid);
  await xc.domainMaxVcpus(domid, config.vcpus);
  await setAffinities(modules, domid, config.cpus);
  await xc.schedCreditDomainSet(domid, { weight: config.cpuWeight, cap: config.cpuCap });
  await xc.domainSetmaxmem(domid, config.maxmemMiB * 1024);
  await xc.domainSetMemmapLimit(domid, config.maxmemMiB * 1024);

  undo.push('remove its nodes', () => removeTree(store, domainPath(domid)));
  await createDomainNodes(store, domid, vm.vmPath);

  const storePort = await xc.evtchnAllocUnbound(domid, 0);
  const consolePort = await xc.evtchnAllocUnbound(domid, 0);
  const built = await buildImage(vm, modules, {
    domid,
    kernel,
    ...(ramdisk ? { ramdisk } : {}),
    cmdline: config.image.args,
    memoryKiB,
    storePort,
    consolePort,
  });
  const info = await xc.domainGetinfo(domid);
  if (!info) throw new XendError(`Domain ${config.name} died while it was being built`);
  const live: Live = {
    domid,
    info,
    startTimeS: Number(modules.clock.wallNs() / 10_000_000n) / 100,
    storeMfn: built.storeMfn,
    storePort: built.storePort,
    consoleMfn: built.consoleMfn,
    consolePort: built.consolePort,
    protocol: built.kernel.addressBits === 64 ? 'x86_64-abi' : 'x86_32-abi',
    notes: notesOf(built),
    exitHandled: false,
  };
  vm.live = live;
  await writeVmDetails(store, vm);
  const { consoleLimitBytes } = modules.settings ?? DEFAULT_SETTINGS;
  await writeDomainDetails(store, vm, live, consoleLimitBytes);
  undo.push('release it from xenstore', () => store.release(domid));
  await store.introduce(domid, built.storeMfn, built.storePort);

  undo.push('remove its devices', async () => {
    for (const device of await connectedDevices(vm, store)) await removeDevice(vm, store, device);
  });
  for (const device of config.devices) {
    await createDevice(vm, live, device, modules, modules.numbers?.get(device.uuid));
  }
  undo.push('stop its device model', () => modules.screens.stop(domid));
  await modules.screens.start(vm, live);
  await store.rm(`${vm.vmPath}/${CREATION_IN_PROGRESS}`);
  log.info('XendDomainInfo', `Domain ${config.name} (${domid}) created.`);
  return live;
}

async function buildImage(
  vm: Vm,
  modules: BuildModules,
  options: Parameters<BuildModules['build']>[0],
): Promise<BuiltDomain> {
  try {
    return await (modules.restore ?? modules.build)(options);
  } catch (error) {
    const outOfMemory = error instanceof DomBuildError ? error.kind === 'outOfMemory' : isErrno(error, Errno.ENOMEM);
    if (outOfMemory) throw await notEnoughMemory(modules, options.memoryKiB);
    const text = error instanceof DomBuildError ? `${error.title}: ${error.message}` : messageOf(error);
    throw new XendError(`Building domain failed: ostype=${vm.config.image.type} dom=${options.domid} err=${text}`, {
      cause: error,
    });
  }
}

const isErrno = (error: unknown, errno: number): boolean => error instanceof XenError && error.errno === errno;

/** Anything that broke on the way, told with the machine's name. */
function asXendError(vm: Vm, error: unknown): Error {
  if (error instanceof XendError) return error;
  if (error instanceof XenError) {
    return new XendError(`Creating domain failed: name=${vm.name}, error=-${error.errno} (${error.message})`, {
      cause: error,
    });
  }
  return error instanceof Error ? error : new XendError(messageOf(error));
}

function notesOf(built: BuiltDomain): ReadonlyMap<string, string> {
  const { guestOs, guestVersion, xenVersion, loader, features } = built.kernel;
  const notes: [string, string][] = [
    ['FEATURES', features],
    ['GUEST_OS', guestOs],
    ['GUEST_VERSION', guestVersion],
    ['LOADER', loader],
    ['XEN_VERSION', xenVersion],
  ];
  return new Map(notes.filter(([, value]) => value !== ''));
}

async function readImage(modules: BuildModules, path: string, what: string): Promise<Uint8Array> {
  if (path === '') throw new XendError(`${what} not specified`);
  let bytes: Uint8Array;
  try {
    bytes = await modules.readFile(path);
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    throw new XendError(missing ? `${what} does not exist: ${path}` : `${what} cannot be read: ${messageOf(error)}`, {
      cause: error,
    });
  }
  if (bytes.length > MAX_IMAGE_BYTES) throw new XendError(`${what} is larger than ${MAX_IMAGE_BYTES} bytes: ${path}`);
  return bytes;
}

async function setAffinities(
  modules: BuildModules,
  domid: number,
  cpus: readonly (readonly number[])[],
): Promise<void> {
  for (const [vcpu, allowed] of cpus.entries()) {
    if (allowed.length === 0) continue;
    try {
      await modules.xc.vcpuSetaffinity(domid, vcpu, cpuMask(allowed));
    } catch (error) {
      throw new XendError(`Cannot pin vcpu: ${vcpu} to cpu: [${allowed.join(', ')}] - ${messageOf(error)}`, {
        cause: error,
      });
    }
  }
}

/** Throws XendError when there is not enough for a machine, now and soon. */
export const requireMemory = (modules: BuildModules, config: VmConfig): Promise<void> =>
  waitForMemory(modules, config.memoryMiB * 1024 + DOMAIN_OVERHEAD_KIB);

/** Waits a little for memory of domains that are going; Domain-0 has none that it could give up. */
async function waitForMemory(modules: BuildModules, needKiB: number): Promise<void> {
  for (let waitedMs = 0; ; waitedMs += MEMORY_POLL_MS) {
    const { freePages, scrubPages, totalPages } = await modules.xc.physinfo();
    if (freePages * KIB_PER_PAGE >= needKiB) return;
    const hopeless = totalPages * KIB_PER_PAGE < needKiB;
    const pending = scrubPages > 0 || (await modules.xc.domainGetinfolist()).some((info) => info.dying);
    if (hopeless || !pending || waitedMs >= MEMORY_WAIT_MS) throw await notEnoughMemory(modules, needKiB);
    await modules.sleep(MEMORY_POLL_MS);
  }
}

/** With Xen 4.4's words (`balloon.py`); ballooning finds that Domain-0 has too little to give. */
async function notEnoughMemory(modules: BuildModules, needKiB: number): Promise<XendError> {
  const { dom0Ballooning, dom0MinMemMiB } = modules.settings ?? DEFAULT_SETTINGS;
  const { freePages, scrubPages } = await modules.xc.physinfo();
  if (!dom0Ballooning) {
    return new XendError(
      'Not enough free memory and enable-dom0-ballooning is False, so I cannot release any more.  ' +
        `I need ${needKiB} KiB but only have ${freePages * KIB_PER_PAGE}.`,
    );
  }
  const pages = freePages + scrubPages + ((await modules.xc.domainGetinfo(0))?.nrPages ?? 0);
  const minKiB = dom0MinMemMiB * 1024;
  const leftKiB = pages * KIB_PER_PAGE - minKiB;
  if (leftKiB >= needKiB) {
    return new XendError('Not enough memory is available, and dom0 cannot be shrunk any further');
  }
  return new XendError(
    `I need ${needKiB} KiB, but dom0_min_mem is ${minKiB} and shrinking to ${minKiB} KiB would leave only ` +
      `${leftKiB} KiB free.`,
  );
}

/** Destroys and waits until the hypervisor has let go of it, as far as it soon does. */
export async function destroyDomain(modules: Pick<XendPorts, 'xc' | 'sleep'>, domid: number): Promise<void> {
  try {
    await modules.xc.domainDestroy(domid);
  } catch (error) {
    if (error instanceof XenError && error.errno === Errno.ESRCH) return;
    throw error;
  }
  for (let waitedMs = 0; waitedMs < DESTROY_WAIT_MS; waitedMs += MEMORY_POLL_MS) {
    const info = await modules.xc.domainGetinfo(domid);
    // A dying domain that somebody still maps pages of goes when they let go: not xend's to wait for.
    if (!info || info.dying) return;
    await modules.sleep(MEMORY_POLL_MS);
  }
}
