/**
 * All machines: found, looked up, created, destroyed, restarted. Keeps step with the hypervisor's list of domains. Answers
 * to Xen 4.4 `XendDomain.py`. What single calls do to one machine is in operations.ts; the config store is store/managed.ts.
 */
import { randomUUID } from 'node:crypto';
import { access } from 'node:fs/promises';
import type { DomainInfo } from '@xenhost/libxenctrl';
import { PAGE_SIZE } from '@xenhost/xen-abi';
import { checkName } from '../config/parse.ts';
import type { DeviceConfig, VmConfig } from '../config/types.ts';
import {
  closeDevice,
  connectedDevices,
  retireBackend,
  waitForDevices,
  type ConnectedDevice,
} from '../device/controller.ts';
import { completeDevice } from '../device/plan.ts';
import { Unplugs } from '../device/unplugs.ts';
import { DeviceModels, withLocation } from '../device-model/device-models.ts';
import { InvalidDomainError, XendError, messageOf } from '../errors.ts';
import { DEFAULT_SETTINGS } from '../options/settings.ts';
import type { DeviceNumbers } from '../image/device-numbers.ts';
import type { BuildPvDomain, XendPorts, XendSettings } from '../ports.ts';
import { CREATION_IN_PROGRESS, RESTART_COUNT, RESTART_IN_PROGRESS } from '../store/exit-notes.ts';
import type { ManagedStore } from '../store/managed.ts';
import { readTree, removeTree, writeName, writeVmDetails } from '../store/nodes.ts';
import { sweepStore } from '../store/sweep.ts';
import { adoptDomain, DOM0_NAME } from './adopt.ts';
import { isXenstoreError } from '@xenhost/xenstore-client';
import { buildDomain, destroyDomain, requireMemory, type BuildModules } from './build.ts';
import { followUnplugged } from './device-operations.ts';
import { handleExit } from './exit.ts';
import { Mutex } from './mutex.ts';
import { setVcpuCount, start, stopWithXend } from './operations.ts';
import { CpuPools } from './pools.ts';
import { domainPath, Vm, type Live, type PowerStateName } from './vm.ts';

/** Where Xen 4.4 puts cores. */
const DEFAULT_DUMP_DIRECTORY = '/var/xen/dump';

export class DomainManager {
  readonly ports: XendPorts;
  readonly pools: CpuPools;
  readonly unplugs: Unplugs;
  readonly deviceModels: DeviceModels;
  readonly #managed: ManagedStore;
  /** Machines with a domain, by its id. */
  readonly #running = new Map<number, Vm>();
  /** Machines of the config store, running or not, by UUID. */
  readonly #stored = new Map<string, Vm>();
  /** Machines whose domain is being made: their names and UUIDs are taken. */
  readonly #building = new Set<Vm>();
  /** One domain is built at a time: the check for memory and its use belong together. */
  readonly #buildLock = new Mutex();
  readonly #applyLock = new Mutex();
  readonly #background = new Set<Promise<unknown>>();
  /** Counts domains made and ended, so that an older list of the hypervisor is not taken for news about them. */
  #sequence = 0;
  /** When a running machine's domain was made or found. */
  readonly #madeAt = new WeakMap<Live, number>();
  /** When a domain was ended that may still stand in a list under way. */
  readonly #endedAt = new Map<number, number>();
  #refreshing: Promise<void> | undefined;
  /** Whether a stored machine goes with its domain: told by who keeps such marks, the Xen-API. */
  isTransient: (vm: Vm) => Promise<boolean> = () => Promise.resolve(false);
  /** Looks at single domains that are under way. */
  readonly #looking = new Map<Live, Promise<void>>();
  /** When the hypervisor was asked for what is known of a running machine. */
  readonly #askedAt = new WeakMap<Live, number>();

  constructor(ports: XendPorts, managed: ManagedStore) {
    this.ports = ports;
    this.#managed = managed;
    this.pools = new CpuPools(ports, managed);
    this.unplugs = new Unplugs(ports);
    this.deviceModels = new DeviceModels(ports);
  }

  get settings(): XendSettings {
    return this.ports.settings ?? DEFAULT_SETTINGS;
  }

  /** Folder of cores. */
  get dumpDirectory(): string {
    return this.ports.dumpDirectory ?? DEFAULT_DUMP_DIRECTORY;
  }

  /** Where a suspended machine's memory is. */
  checkpointPath(vm: Vm): string {
    return this.#managed.checkpointPath(vm.uuid);
  }

  /** Folder of all that outlives xend. */
  get stateDirectory(): string {
    return this.#managed.directory;
  }

  /** Finds what runs and what is stored, takes away what an earlier xend left half done, writes Domain-0's own nodes. */
  async start(): Promise<void> {
    await this.#writeDom0Nodes();
    for (const config of await this.#managed.load()) {
      const vm = new Vm(config);
      vm.managed = true;
      vm.suspended = await exists(this.checkpointPath(vm));
      this.#stored.set(config.uuid, vm);
    }
    await this.#sweep();
    await this.pools.start();
    await this.refresh();
    await this.applyDom0Settings();
  }

  /** Gives Domain-0 the vCPUs that dom0-cpus asks for. Never throws. */
  async applyDom0Settings(): Promise<void> {
    const { dom0Vcpus } = this.settings;
    const dom0 = this.#running.get(0);
    if (dom0Vcpus === 0 || !dom0) return;
    await setVcpuCount(this, dom0, dom0Vcpus).catch((error: unknown) => {
      this.ports.log.error('XendDomain', `dom0-cpus ${dom0Vcpus}: ${messageOf(error)}`);
    });
  }

  /** Starts the stored machines and pools that shall run whenever xend does. Never throws. */
  async autostart(): Promise<void> {
    await this.pools.autostart();
    for (const vm of [...this.#stored.values()]) {
      if (vm.config.onXendStart !== 'start' || vm.live || vm.state !== 'halted') continue;
      await start(this, vm, vm.name, false).catch((error: unknown) => {
        this.ports.log.error('XendDomain', `Cannot start ${vm.name}: ${messageOf(error)}`, error);
      });
    }
  }

  /** What on_xend_stop says of each running machine: nothing, a shutdown, a suspend, an end. Never throws. */
  async stopDomains(): Promise<void> {
    for (const vm of [...this.#running.values()]) {
      if (!vm.live || vm.live.domid === 0 || vm.state !== 'running') continue;
      try {
        await stopWithXend(this, vm);
      } catch (error) {
        const what = vm.config.onXendStop;
        this.ports.log.error('XendDomain', `Domain ${vm.name} failed to ${what}: ${messageOf(error)}`, error);
      }
    }
  }

  /** Resolves when work that goes on behind calls (restarts, closing of devices) has ended. */
  async settle(): Promise<void> {
    while (this.#background.size > 0) await Promise.allSettled([...this.#background]);
  }

  async #sweep(): Promise<void> {
    const infos = await this.ports.xc.domainGetinfolist(0);
    for (const info of infos) if (info.dying && info.domid !== 0) await this.#cleanUpDying(info);
    const present = infos.filter((info) => !info.dying || info.domid === 0);
    const uuids = new Set(present.map((info) => info.uuid));
    const removed = await sweepStore(this.ports.store, { domids: new Set(present.map((info) => info.domid)), uuids });
    for (const path of removed) this.ports.log.warn('XendDomain', `Removed what an earlier xend left: ${path}`);
    for (const uuid of await this.#managed.listRunning()) {
      if (!uuids.has(uuid)) await this.#managed.removeRunning(uuid);
    }
  }

  /** A domain that an earlier xend ended, which others still hold: its devices are told to let go. */
  async #cleanUpDying(info: DomainInfo): Promise<void> {
    const vm = await adoptDomain(info, this.ports);
    this.#endedAt.set(info.domid, ++this.#sequence);
    if (vm.live) await this.#cleanUp(vm, vm.live);
  }

  async #writeDom0Nodes(): Promise<void> {
    const { store } = this.ports;
    const path = domainPath(0);
    if (!(await store.exists('/vm'))) await store.mkdir('/vm');
    const nodes = { domid: '0', name: DOM0_NAME, vm: '/vm/00000000-0000-0000-0000-000000000000' };
    for (const [key, value] of Object.entries(nodes)) {
      if ((await store.tryRead(`${path}/${key}`)) === undefined) await store.write(`${path}/${key}`, value);
    }
  }

  // Lists and look-ups

  /** Brings the machines in step with the hypervisor. Calls that come while one runs share the next. */
  refresh(): Promise<void> {
    this.#refreshing ??= Promise.resolve().then(async () => {
      const asked = ++this.#sequence;
      const infos = this.ports.xc.domainGetinfolist(0);
      this.#refreshing = undefined;
      await this.#apply(await infos, asked);
    });
    return this.#refreshing;
  }

  /**
   * As `refresh`, for what one call is about: costs the same however many domains there are. Whoever is not known to run,
   * or is gone, makes it look at all of them.
   */
  async refreshOf(ref: Vm | string | number): Promise<void> {
    const live = (ref instanceof Vm ? ref : this.find(ref))?.live;
    if (!live) return this.refresh();
    let look = this.#looking.get(live);
    if (!look) {
      look = Promise.resolve().then(() => {
        this.#looking.delete(live);
        return this.#look(live);
      });
      this.#looking.set(live, look);
    }
    return look;
  }

  async #look(live: Live): Promise<void> {
    const asked = ++this.#sequence;
    const info = await this.ports.xc.domainGetinfo(live.domid);
    const vm = this.#running.get(live.domid);
    if (!info || vm?.live !== live || info.uuid !== live.info.uuid) return this.refresh();
    this.#learn(vm, live, info, asked);
  }

  #learn(vm: Vm, live: Live, info: DomainInfo, asked: number): void {
    if (asked < (this.#askedAt.get(live) ?? 0)) return;
    this.#askedAt.set(live, asked);
    live.info = info;
    this.#noticeExit(vm, live);
  }

  #apply(infos: readonly DomainInfo[], asked: number): Promise<void> {
    return this.#applyLock.run(async () => {
      const present = new Set<number>();
      const building = new Set([...this.#building].map((vm) => vm.uuid));
      for (const info of infos) {
        present.add(info.domid);
        const vm = this.#running.get(info.domid);
        if (vm?.live?.domid === info.domid) {
          this.#learn(vm, vm.live, info, asked);
        } else if (!building.has(info.uuid) && !info.dying && (this.#endedAt.get(info.domid) ?? 0) < asked) {
          await this.#adopt(info);
        }
      }
      for (const domid of this.#endedAt.keys()) if (!present.has(domid)) this.#endedAt.delete(domid);
      for (const [domid, vm] of this.#running) {
        const live = vm.live;
        if (present.has(domid) || (live && (this.#madeAt.get(live) ?? 0) > asked)) continue;
        // Somebody else destroyed it, or it was dying and is gone now.
        this.#running.delete(domid);
        if (live?.domid !== domid || live.exitHandled) continue;
        live.exitHandled = true;
        this.#inBackground('clean up', vm, () => vm.lock.run(() => this.#cleanUp(vm, live)));
      }
    });
  }

  async #adopt(info: DomainInfo): Promise<void> {
    if ((await this.ports.store.tryRead(`/vm/${info.uuid}/${CREATION_IN_PROGRESS}`)) !== undefined) {
      // An earlier xend died while it built this one.
      this.ports.log.warn('XendDomain', `Domain ${info.domid} was never finished: destroying it`);
      const vm = await adoptDomain(info, this.ports);
      await destroyDomain(this.ports, info.domid);
      this.#endedAt.set(info.domid, ++this.#sequence);
      if (vm.live) await this.#cleanUp(vm, vm.live);
      return;
    }
    const stored = this.#stored.get(info.uuid);
    const known = stored && !stored.live ? stored : undefined;
    const config = known?.config ?? (info.domid === 0 ? undefined : await this.#managed.loadRunning(info.uuid));
    const adopted = await adoptDomain(info, this.ports, config);
    const live = adopted.live;
    if (!live) return;
    const vm = known ?? adopted;
    vm.config = adopted.config;
    vm.live = live;
    this.#enroll(vm, live);
    await this.deviceModels.adopt(vm, live);
    if (info.domid !== 0) await this.save(vm);
    await followUnplugged(this, vm);
    this.#noticeExit(vm, live);
  }

  #enroll(vm: Vm, live: Live): void {
    this.#madeAt.set(live, ++this.#sequence);
    this.#running.set(live.domid, vm);
  }

  #noticeExit(vm: Vm, live: Live): void {
    if (live.exitHandled || live.domid === 0) return;
    if (!live.info.shutdown && !live.info.crashed && !live.info.dying) return;
    live.exitHandled = true;
    this.#inBackground('handle its end', vm, () => vm.lock.run(() => handleExit(vm, live, this)));
  }

  /** Running machines, then stored ones that do not run. */
  all(): Vm[] {
    const running = new Set([...this.#running.values()].filter((vm) => vm.live !== undefined));
    return [...running, ...[...this.#stored.values()].filter((vm) => !running.has(vm))];
  }

  /** Sorted by name. */
  list(state: PowerStateName | 'all'): Vm[] {
    const chosen = this.all().filter((vm) => state === 'all' || vm.state === state);
    return chosen.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
  }

  /** By name of a running one, name of a stored one, id, UUID. */
  find(ref: string | number): Vm | undefined {
    const text = String(ref);
    let byUuid: Vm | undefined;
    for (const vm of this.#running.values()) {
      if (!vm.live) continue;
      if (vm.name === text) return vm;
      if (vm.uuid === text) byUuid ??= vm;
    }
    for (const vm of this.#stored.values()) if (vm.name === text) return vm;
    const byId = /^\d{1,9}$/.test(text) ? this.#running.get(Number(text)) : undefined;
    if (byId?.live) return byId;
    return byUuid ?? this.#stored.get(text);
  }

  /** As `find`; looks at the hypervisor again before it gives up. Throws InvalidDomainError. */
  async lookup(ref: string | number): Promise<Vm> {
    const known = this.find(ref);
    if (known) return known;
    await this.refresh();
    const found = this.find(ref);
    if (!found) throw new InvalidDomainError(String(ref));
    return found;
  }

  // Making and ending domains

  /** Makes a domain for a new machine and leaves it paused. Throws XendError; nothing is left then. */
  async create(given: VmConfig): Promise<Vm> {
    this.#refuseDuplicate(given);
    const stored = this.#stored.get(given.uuid);
    const config = { ...given, devices: completeDevices(given.devices) };
    const vm = stored ?? new Vm(config);
    vm.config = config;
    return this.#build(vm);
  }

  /** As `create`, for a machine whose memory another file holds: `restore` puts it in place of a kernel. */
  async createFrom(given: VmConfig, restore: BuildPvDomain, numbers: DeviceNumbers): Promise<Vm> {
    this.#refuseDuplicate(given);
    const vm = this.#stored.get(given.uuid) ?? new Vm(given);
    const { config } = vm;
    vm.config = given;
    try {
      return await this.#build(vm, { restore, numbers });
    } catch (error) {
      vm.config = config;
      throw error;
    }
  }

  /** Whether a machine that is about to come could be made here. Resolves to bytes that it can have. Throws XendError. */
  async requireRoom(config: VmConfig): Promise<number> {
    this.#refuseDuplicate(config);
    await requireMemory(this.modules, config);
    return (await this.ports.xc.physinfo()).freePages * PAGE_SIZE;
  }

  /** Gives a stored machine a domain. Throws XendError. */
  async startStored(vm: Vm): Promise<Vm> {
    this.#refuseDuplicate(vm.config);
    return this.#build(vm);
  }

  async #build(vm: Vm, saved?: Pick<BuildModules, 'restore' | 'numbers'>): Promise<Vm> {
    this.#building.add(vm);
    // Where the last domain's screen was.
    vm.config = withLocation(vm.config, undefined);
    try {
      const live = await this.#buildLock.run(() => buildDomain(vm, { ...this.modules, ...saved }));
      vm.pausedByAdmin = false;
      this.#enroll(vm, live);
      await this.save(vm);
      return vm;
    } finally {
      this.#building.delete(vm);
    }
  }

  #refuseDuplicate(config: VmConfig): void {
    const clash = (vm: Vm): boolean => vm.name === config.name || vm.uuid === config.uuid;
    const other = [...this.#running.values()].find((vm) => vm.live !== undefined && clash(vm));
    if (other?.live) throw new XendError(`Domain '${config.name}' already exists with ID '${other.live.domid}'`);
    if ([...this.#building].some(clash))
      throw new XendError(`Domain '${config.name}' already exists and is being created`);
  }

  get modules(): BuildModules {
    return {
      ...this.ports,
      screens: this.deviceModels,
      poolId: (name) => this.pools.idForConfig(name),
      resolveDomain: (ref) => {
        const domid = this.find(ref)?.live?.domid;
        if (domid === undefined) throw new InvalidDomainError(ref);
        return domid;
      },
    };
  }

  /** Ends a machine's domain at once and cleans up after it. Does nothing when it has none. */
  async destroy(vm: Vm): Promise<void> {
    await vm.lock.run(() => this.destroyLocked(vm));
  }

  /** As `destroy`, for callers that hold the machine's lock. */
  async destroyLocked(vm: Vm): Promise<void> {
    if (!vm.live) return;
    await this.endLocked(vm);
    await this.forgetTransient(vm);
  }

  /** Removes a stored machine that was to be there for one run only (other_config:transient of the Xen-API). */
  async forgetTransient(vm: Vm): Promise<void> {
    if (vm.managed && (await this.isTransient(vm))) await this.undefine(vm);
  }

  /** Ends a machine's domain and keeps the machine, whatever it is. The caller holds its lock. */
  async endLocked(vm: Vm): Promise<void> {
    const live = vm.live;
    if (!live) return;
    live.exitHandled = true;
    await destroyDomain(this.ports, live.domid);
    this.#endedAt.set(live.domid, ++this.#sequence);
    this.#running.delete(live.domid);
    await this.#cleanUp(vm, live);
    this.ports.log.info('XendDomainInfo', `Domain ${vm.name} (${live.domid}) destroyed.`);
  }

  /** Closes devices and removes nodes of a domain that is no more. */
  async #cleanUp(vm: Vm, live: Live): Promise<void> {
    const { store, log } = this.ports;
    if (vm.live === live) vm.live = undefined;
    const attempt = async (what: string, work: () => Promise<unknown>): Promise<void> => {
      try {
        await work();
      } catch (error) {
        log.error('XendDomainInfo', `${vm.name} (${live.domid}): cannot ${what}`, error);
      }
    };
    await attempt('stop its device model', () => this.deviceModels.stop(live.domid));
    let devices: ConnectedDevice[] = [];
    await attempt('close its devices', async () => {
      devices = await connectedDevices(vm, store);
      for (const device of devices) {
        this.unplugs.stop(device);
        await closeDevice(store, device);
      }
    });
    await attempt('release it from xenstore', async () => {
      try {
        await store.release(live.domid);
      } catch (error) {
        // xenstored saw it go before we could tell.
        if (!isXenstoreError(error, 'ENOENT') && !isXenstoreError(error, 'EINVAL')) throw error;
      }
    });
    await attempt('remove its nodes', () => removeTree(store, domainPath(live.domid)));
    await attempt('remove its machine nodes', () => removeTree(store, vm.vmPath));
    await attempt('forget its configuration', () => this.#managed.removeRunning(vm.uuid));
    if (devices.length > 0) {
      this.#inBackground('retire its devices', vm, async () => {
        for (const device of devices) await retireBackend(store, device);
      });
    }
  }

  /** Ends the domain and makes another of the same machine, running when done. Holds the machine's lock already. */
  async restartLocked(vm: Vm): Promise<void> {
    const { store } = this.ports;
    const count = Number((await store.tryRead(`${vm.vmPath}/${RESTART_COUNT}`)) ?? 0);
    const notes = await readTree(store, `${vm.vmPath}/xend`);
    await this.endLocked(vm);
    await this.bringBack(vm, count, notes);
  }

  /** The second half of a restart: builds, waits for devices, unpauses. On failure the new domain is gone again. */
  async bringBack(vm: Vm, count: number, notes: ReadonlyMap<string, string>): Promise<void> {
    const { store, xc } = this.ports;
    await this.#build(vm);
    try {
      for (const [name, value] of notes) await store.write(`${vm.vmPath}/xend/${name}`, value);
      await waitForDevices(vm, store, this.settings.deviceCreateTimeoutMs);
      if (vm.live) await xc.domainUnpause(vm.live.domid);
      await store.write(`${vm.vmPath}/${RESTART_COUNT}`, count + 1);
    } catch (error) {
      await this.destroyLocked(vm);
      throw error;
    } finally {
      await removeTree(store, `${vm.vmPath}/${RESTART_IN_PROGRESS}`).catch(() => undefined);
    }
  }

  /**
   * Puts a dead domain aside under a new name and UUID, so that its machine can have another. Resolves to the machine that
   * keeps the name; the dead domain stays listed.
   */
  async renameDead(vm: Vm, live: Live): Promise<Vm> {
    const { store, xc } = this.ports;
    const uuid = randomUUID();
    const successor = new Vm(vm.config);
    successor.managed = vm.managed;
    vm.managed = false;
    await this.deviceModels.stop(live.domid);
    const devices = await connectedDevices(vm, store);
    for (const device of devices) await closeDevice(store, device);
    for (const device of devices) {
      this.unplugs.stop(device);
      await retireBackend(store, device);
    }
    await removeTree(store, vm.vmPath);
    await this.#managed.removeRunning(vm.uuid);
    vm.config = { ...vm.config, name: `Domain-${uuid}`, uuid, devices: [] };
    if (this.#stored.has(successor.uuid)) this.#stored.set(successor.uuid, successor);
    await xc.domainSethandle(live.domid, uuid);
    live.info = { ...live.info, uuid };
    await writeVmDetails(store, vm);
    await store.write(`${domainPath(live.domid)}/vm`, vm.vmPath);
    await store.write(`${domainPath(live.domid)}/name`, vm.name);
    await this.save(vm);
    this.ports.log.info('XendDomainInfo', `Renamed dead domain ${successor.name} (${live.domid}) to ${vm.name}`);
    return successor;
  }

  /** Throws XendError. */
  async rename(vm: Vm, name: string): Promise<void> {
    checkName(name);
    const other = this.all().find((known) => known.name === name && known !== vm);
    if (other) {
      throw new XendError(`VM name '${name}' already exists${other.live ? ` as domain ${other.live.domid}` : ''}`);
    }
    vm.config = { ...vm.config, name };
    await this.save(vm);
    if (vm.live) await writeName(this.ports.store, vm, vm.live);
  }

  // The config store

  /** Adds a machine to the config store. Throws XendError. */
  async define(given: VmConfig): Promise<Vm> {
    const taken = this.all().find((vm) => vm.name === given.name && vm.uuid !== given.uuid);
    if (taken)
      throw new XendError(
        `VM name '${given.name}' already exists${taken.live ? ` as domain ${taken.live.domid}` : ''}`,
      );
    const config = { ...given, devices: completeDevices(given.devices) };
    const running = [...this.#running.values()].find((vm) => vm.uuid === config.uuid);
    const vm = this.#stored.get(config.uuid) ?? running ?? new Vm(config);
    if (!vm.live) vm.config = config;
    vm.managed = true;
    this.#stored.set(config.uuid, vm);
    await this.#managed.save(vm.config);
    if (vm.live) await this.#managed.removeRunning(vm.uuid);
    return vm;
  }

  /** Removes a machine from the config store. */
  async undefine(vm: Vm): Promise<void> {
    vm.managed = false;
    vm.suspended = false;
    this.#stored.delete(vm.uuid);
    // While it runs, the next xend must still know it.
    await this.save(vm);
    await this.#managed.remove(vm.uuid);
  }

  /** Writes a machine's configuration after a change: to the config store, or to what the next xend finds. */
  async save(vm: Vm): Promise<void> {
    if (vm.managed) await this.#managed.save(vm.config);
    else if (vm.live && vm.live.domid !== 0) await this.#managed.saveRunning(vm.config);
  }

  #inBackground(what: string, vm: Vm, work: () => Promise<unknown>): void {
    const running = work().catch((error: unknown) => {
      this.ports.log.error('XendDomain', `${vm.name}: cannot ${what}: ${messageOf(error)}`, error);
    });
    this.#background.add(running);
    void running.finally(() => this.#background.delete(running));
  }
}

function completeDevices(devices: readonly DeviceConfig[]): DeviceConfig[] {
  const completed: DeviceConfig[] = [];
  for (const device of devices) completed.push(completeDevice(device, completed));
  return completed;
}

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );
