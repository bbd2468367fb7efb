/**
 * The device models of PV domains with a framebuffer, one qemu-dm process each (Xen 4.4 `image.py`, createDeviceModel): started with
 * the domain, ended with it, found again by another xend. One that dies is started again and takes its guest up where it was; one that
 * cannot live is left alone, with the reason in xend.log. (Xen 4.4 crashes the guest instead.)
 */
import type { DeviceConfig, VmConfig } from '../config/types.ts';
import { domainPath, type Live, type Vm } from '../domain/vm.ts';
import { messageOf } from '../errors.ts';
import {
  DEVICE_MODEL_CHECK_MS, DEVICE_MODEL_END_MS, DEVICE_MODEL_RESTARTS, DEVICE_MODEL_RESTARTS_MS,
} from '../limits.ts'; // prettier-ignore
import type { DeviceModelLauncher, XendPorts } from '../ports.ts';
import { removeTree } from '../store/nodes.ts';
import { defaultScreenSettings, framebufferOf, planDeviceModel, type DeviceModelPlan } from './arguments.ts';

/** Where a device model of any domain tells its state. */
export const DEVICE_MODELS = '/local/domain/0/device-model';
/** Node of the domain with the number of its process. */
export const DEVICE_MODEL_PID = 'image/device-model-pid';
/** Exit code of a program that was given what it cannot do: the next would not fare better. */
const WRONG_OPTIONS = 2;
/** How often a process that was told to end is looked at. */
const END_POLL_MS = 100;

type Modules = Pick<XendPorts, 'store' | 'log' | 'sleep' | 'deviceModels' | 'settings' | 'clock'>;

interface Entry {
  readonly vm: Vm;
  readonly domid: number;
  readonly name: string;
  readonly plan: DeviceModelPlan;
  readonly following: AbortController;
  pid: number | undefined;
  /** When it was started again, ms. */
  restarts: number[];
}

export class DeviceModels {
  readonly #modules: Modules;
  readonly #entries = new Map<number, Entry>();
  /** Processes that were found, not started, tell nobody of their end. */
  #check: NodeJS.Timeout | undefined;

  constructor(modules: Modules) {
    this.#modules = modules;
  }

  /** Starts the device model of a domain that needs one and has none. Throws what keeps the program from running at all. */
  async start(vm: Vm, live: Live): Promise<void> {
    const entry = this.#entryOf(vm, live);
    if (!entry || this.#entries.has(live.domid)) return;
    this.#entries.set(live.domid, entry);
    await this.#launch(entry, true);
    this.#follow(entry);
  }

  /** Takes over the device model of a domain that was there before this xend; starts another where it has died. */
  async adopt(vm: Vm, live: Live): Promise<void> {
    const { store, deviceModels, log } = this.#modules;
    const entry = this.#entryOf(vm, live);
    if (!entry || !deviceModels) return;
    this.#entries.set(live.domid, entry);
    const pid = Number(await store.tryRead(`${domainPath(live.domid)}/${DEVICE_MODEL_PID}`));
    if (Number.isInteger(pid) && pid > 0 && deviceModels.isAlive(pid, live.domid)) {
      entry.pid = pid;
      log.info('image', `${entry.name} device model rediscovered, pid ${pid}`);
      this.#watchOver();
    } else {
      log.warn('image', `domain ${entry.name}: device model no longer running`);
      await this.#launch(entry, false);
    }
    this.#follow(entry);
  }

  /** Ends a domain's device model; the process may take a while to be gone. */
  async stop(domid: number): Promise<void> {
    const entry = this.#entries.get(domid);
    if (!entry) return;
    this.#entries.delete(domid);
    entry.following.abort();
    const { deviceModels, store } = this.#modules;
    if (entry.pid !== undefined && deviceModels) void this.#end(entry.pid, domid, deviceModels);
    await removeTree(store, `${DEVICE_MODELS}/${domid}`);
  }

  /** Forgets them all; the processes go on. */
  close(): void {
    clearInterval(this.#check);
    for (const { following } of this.#entries.values()) following.abort();
    this.#entries.clear();
  }

  #entryOf(vm: Vm, { domid }: Live): Entry | undefined {
    const { deviceModels, settings } = this.#modules;
    const vfb = framebufferOf(vm.config);
    if (!deviceModels || !vfb) return undefined;
    const plan = planDeviceModel({ config: vm.config, domid }, vfb, settings?.screen ?? defaultScreenSettings);
    return { vm, domid, name: vm.name, plan, following: new AbortController(), pid: undefined, restarts: [] };
  }

  async #launch(entry: Entry, fresh: boolean): Promise<void> {
    const { deviceModels, store, log } = this.#modules;
    const { domid, name, plan, vm } = entry;
    if (!deviceModels) return;
    // The process takes it away again.
    if (plan.password !== '') await store.write(`${vm.vmPath}/vncpasswd`, plan.password);
    await store.mkdir(`${DEVICE_MODELS}/${domid}`);
    const pid = deviceModels.start({
      name,
      args: plan.args,
      fresh,
      onExit: (code) => {
        if (entry.pid === pid) this.#noticeEnd(entry, code);
      },
    });
    entry.pid = pid;
    await store.write(`${domainPath(domid)}/${DEVICE_MODEL_PID}`, pid);
    log.info('image', `device model of ${name}: pid ${pid}, ${plan.args.join(' ')}`);
  }

  #noticeEnd(entry: Entry, code: number | null | undefined): void {
    entry.pid = undefined;
    this.#again(entry, code).catch((error: unknown) => {
      this.#modules.log.error('image', `domain ${entry.name}: cannot start its device model again`, error);
    });
  }

  async #again(entry: Entry, code: number | null | undefined): Promise<void> {
    const { log, store, clock, deviceModels } = this.#modules;
    const isOurs = (): boolean => this.#entries.get(entry.domid) === entry;
    // One that ended with its domain has done what it should.
    if (!isOurs() || !(await store.isDomainIntroduced(entry.domid)) || !isOurs()) return;
    const now = Number(clock.wallNs() / 1_000_000n);
    entry.restarts = [...entry.restarts.filter((at) => now - at < DEVICE_MODEL_RESTARTS_MS), now];
    const how = code === undefined || code === null ? 'was killed' : `ended with status ${code}`;
    const words = deviceModels?.lastWords(entry.name) ?? '';
    if (code === WRONG_OPTIONS || entry.restarts.length > DEVICE_MODEL_RESTARTS) {
      log.error('image', `domain ${entry.name}: its device model ${how}, and is not started again: ${words}`);
      await this.#tellFailure(entry, words);
      return;
    }
    log.warn('image', `domain ${entry.name}: its device model ${how}, and is started again`);
    await this.#launch(entry, false);
  }

  /** For whoever waits for the devices. */
  async #tellFailure({ domid }: Entry, words: string): Promise<void> {
    const path = `/local/domain/0/backend/vfb/${domid}/0`;
    await this.#modules.store.transaction(async (t) => {
      if (!(await t.exists(path))) return;
      await t.write(`${path}/hotplug-error`, words);
      await t.write(`${path}/hotplug-status`, 'error');
    });
  }

  async #end(pid: number, domid: number, launcher: DeviceModelLauncher): Promise<void> {
    launcher.end(pid, 'SIGHUP');
    for (let waitedMs = 0; waitedMs < DEVICE_MODEL_END_MS; waitedMs += END_POLL_MS) {
      await this.#modules.sleep(END_POLL_MS);
      if (!launcher.isAlive(pid, domid)) return;
    }
    launcher.end(pid, 'SIGKILL');
  }

  #watchOver(): void {
    this.#check ??= setInterval(() => {
      const { deviceModels } = this.#modules;
      for (const entry of this.#entries.values()) {
        if (entry.pid === undefined || deviceModels?.isAlive(entry.pid, entry.domid) !== false) continue;
        this.#noticeEnd(entry, undefined);
      }
    }, DEVICE_MODEL_CHECK_MS).unref();
  }

  /** Keeps the framebuffer's `location` to where its VNC server says it listens. */
  #follow(entry: Entry): void {
    const { store, log } = this.#modules;
    const path = `${domainPath(entry.domid)}/console/vnc-port`;
    const { signal } = entry.following;
    const follow = async (): Promise<void> => {
      const changes = store.watch(path, { signal });
      while (!(await changes.next()).done) {
        const port = await store.tryRead(path);
        if (port !== undefined) await this.#setLocation(entry, `${entry.plan.listen}:${port}`);
      }
    };
    follow().catch((error: unknown) => {
      if (!signal.aborted) log.error('image', `domain ${entry.name}: ${messageOf(error)}`, error);
    });
  }

  async #setLocation({ vm, domid }: Entry, location: string): Promise<void> {
    vm.config = withLocation(vm.config, location);
    const path = `/local/domain/0/backend/vfb/${domid}/0`;
    await this.#modules.store.transaction(async (t) => {
      if (await t.exists(path)) await t.write(`${path}/location`, location);
    });
  }
}

/** The configuration with its framebuffer's `location` as given, or without any. */
export function withLocation(config: VmConfig, location: string | undefined): VmConfig {
  const devices = config.devices.map((device): DeviceConfig => {
    if (device.class !== 'vfb') return device;
    const options = new Map(device.options);
    options.delete('location');
    if (location !== undefined) options.set('location', location);
    return { ...device, options };
  });
  return { ...config, devices };
}
