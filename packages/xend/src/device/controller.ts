/**
 * A domain's devices in xenstore: made, waited for, listed and taken away (Xen 4.4 `server/DevController.py`). The backends
 * are other processes; all that xend and they share are these nodes.
 */
import { atomText, type Sxp, type SxpList } from '@xenhost/sxp';
import type { DeviceConfig } from '../config/types.ts';
import { domainPath, type Live, type Vm } from '../domain/vm.ts';
import { XendError } from '../errors.ts';
import { DEVICE_MODEL_PID } from '../device-model/device-models.ts';
import { BACKEND_RETIRE_TIMEOUT_MS, DEVICE_MODEL_WAIT_MS } from '../limits.ts';
import type { Store, XendPorts } from '../ports.ts';
import { owner, reader, removeTree } from '../store/nodes.ts';
import { blockDeviceNumber } from './blkdev.ts';
import { planDevice, portRange, splitDiskName } from './plan.ts';

/** States of `xen/include/public/io/xenbus.h`. */
export const XenbusState = { initialising: 1, closing: 5, closed: 6 } as const;

/** A device that is in xenstore. */
export interface ConnectedDevice {
  readonly class: string;
  readonly devid: number;
  readonly backendPath: string;
  readonly frontendPath: string;
}

export interface DeviceModules extends Pick<XendPorts, 'xc' | 'store' | 'log' | 'settings'> {
  /** The domain id behind a backend's name or number; throws InvalidDomainError. */
  resolveDomain(ref: string): number;
}

/** Writes a device's nodes in one transaction; `number` is what a saved one had. Throws XendError when its number is taken. */
export async function createDevice(
  vm: Vm,
  live: Live,
  device: DeviceConfig,
  modules: DeviceModules,
  number?: number,
): Promise<ConnectedDevice> {
  const plan = planDevice(device, modules.settings?.vifScript);
  const backendName = atomText(device.options.get('backend')) ?? '0';
  let backend: number;
  try {
    backend = modules.resolveDomain(backendName);
  } catch (error) {
    throw new XendError(`Cannot configure device for unknown backend ${backendName}`, { cause: error });
  }
  await allowPorts(live, device, modules);
  const base = domainPath(live.domid);
  return modules.store.transaction(async (t) => {
    let devid = plan.devid;
    if (devid === 'allocate') {
      const counter = `${base}/device-misc/${plan.frontendClass}/nextDeviceID`;
      const next = Number((await t.tryRead(counter)) ?? 0);
      devid = number ?? next;
      await t.write(counter, Math.max(next, devid + 1));
    }
    const connected: ConnectedDevice = {
      class: device.class,
      devid,
      backendPath: `${domainPath(backend)}/backend/${plan.backendClass}/${live.domid}/${devid}`,
      frontendPath: `${base}/device/${plan.frontendClass}/${devid}`,
    };
    const machinePath = `${vm.vmPath}/device/${device.class}/${devid}`;
    if (await t.exists(machinePath)) {
      const label =
        plan.label === undefined ? `${devid} (${device.class})` : `${plan.label} (${devid}, ${device.class})`;
      throw new XendError(`Device ${label} is already connected.`);
    }
    for (const path of [connected.frontendPath, connected.backendPath]) await removeTree(t, path);
    const handle = { handle: String(devid) };
    await writeSide(t, connected.backendPath, backend, live.domid, {
      ...plan.back,
      ...(plan.handle.back ? handle : {}),
      domain: vm.name,
      frontend: connected.frontendPath,
      'frontend-id': String(live.domid),
      state: String(XenbusState.initialising),
      online: '1',
    });
    await writeSide(t, connected.frontendPath, live.domid, backend, {
      ...(live.protocol === undefined ? {} : { protocol: live.protocol }),
      ...plan.front,
      ...(plan.handle.front ? handle : {}),
      backend: connected.backendPath,
      'backend-id': String(backend),
      state: String(XenbusState.initialising),
    });
    const links = {
      backend: connected.backendPath,
      'backend-id': String(backend),
      frontend: connected.frontendPath,
      'frontend-id': String(live.domid),
    };
    for (const [key, value] of Object.entries(links)) await t.write(`${machinePath}/${key}`, value);
    return connected;
  });
}

/** I/O ports are the hypervisor's to give. Throws XendError. */
async function allowPorts(live: Live, device: DeviceConfig, { xc }: DeviceModules): Promise<void> {
  if (device.class !== 'ioports') return;
  const { from, to } = portRange(device);
  try {
    await xc.domainIoportPermission(live.domid, from, to - from + 1, true);
  } catch (error) {
    throw new XendError(`ioports: Failed to configure legacy i/o range: ${from} - ${to}`, { cause: error });
  }
}

async function writeSide(
  t: Pick<Store, 'mkdir' | 'setPerms' | 'write'>,
  path: string,
  ownerId: number,
  otherId: number,
  nodes: Readonly<Record<string, string>>,
): Promise<void> {
  await Promise.all([
    t.mkdir(path),
    t.setPerms(path, [owner(ownerId), reader(otherId)]),
    ...Object.entries(nodes).map(([key, value]) => t.write(`${path}/${key}`, value)),
  ]);
}

/** The devices of a machine that are in xenstore. */
export async function connectedDevices(vm: Vm, store: Store, deviceClass?: string): Promise<ConnectedDevice[]> {
  const root = `${vm.vmPath}/device`;
  const classes = deviceClass === undefined ? await store.tryDirectory(root) : [deviceClass];
  const found: ConnectedDevice[] = [];
  for (const name of classes) {
    for (const id of await store.tryDirectory(`${root}/${name}`)) {
      const path = `${root}/${name}/${id}`;
      const [backendPath, frontendPath] = await Promise.all([
        store.tryRead(`${path}/backend`),
        store.tryRead(`${path}/frontend`),
      ]);
      if (backendPath !== undefined && frontendPath !== undefined) {
        found.push({ class: name, devid: Number(id), backendPath, frontendPath });
      }
    }
  }
  return found;
}

export type HotplugOutcome =
  | { readonly kind: 'connected' | 'timeout' | 'missing' }
  | { readonly kind: 'error' | 'busy'; readonly text: string | undefined };

/** Waits until the backend of a device has said how it went. */
async function waitForBackend(store: Store, device: ConnectedDevice, timeoutMs: number): Promise<HotplugOutcome> {
  const path = `${device.backendPath}/hotplug-status`;
  const limit = timeLimit(timeoutMs);
  try {
    // The first event comes at once; the removal of the device is one of its folder.
    for await (const event of store.watch(device.backendPath, { signal: limit.signal })) {
      if (event.path !== device.backendPath && event.path !== path) continue;
      const status = await store.tryRead(path);
      if (status === undefined) {
        if (!(await store.exists(device.backendPath))) return { kind: 'missing' };
        continue;
      }
      if (status !== 'error' && status !== 'busy') return { kind: 'connected' };
      return { kind: status, text: await store.tryRead(`${device.backendPath}/hotplug-error`) };
    }
    return { kind: 'timeout' };
  } finally {
    limit.cancel();
  }
}

/** What the user is told, or undefined when the device works. */
function hotplugFailure(device: ConnectedDevice, outcome: HotplugOutcome): string | undefined {
  const head = `Device ${device.devid} (${device.class}) could not be connected.`;
  switch (outcome.kind) {
    case 'connected':
      return undefined;
    case 'timeout':
      return `${head} Hotplug scripts not working.`;
    case 'missing':
      return `${head} Device not found.`;
    case 'error':
      return `${head} ${outcome.text ?? 'Backend device not found.'}`;
    case 'busy':
      return `${head}\n${'text' in outcome ? (outcome.text ?? 'Busy.') : 'Busy.'}`;
  }
}

const WAITING_CLASSES = new Set(['vif', 'vif2', 'vbd', 'tap', 'tap2']);

/** Backends in a device model: what they offer must stand there before the guest looks. */
const SCREEN_CLASSES = new Set(['vfb', 'vkbd']);

/** Throws XendError when the device model cannot live; one that is slow is not waited for long. */
async function waitForDeviceModel(store: Store, device: ConnectedDevice): Promise<void> {
  const domain = device.frontendPath.split('/device/')[0] ?? '';
  if (!(await store.exists(`${domain}/${DEVICE_MODEL_PID}`))) return;
  const changes = store.watch(device.backendPath, { signal: AbortSignal.timeout(DEVICE_MODEL_WAIT_MS) });
  try {
    while (!(await changes.next()).done) {
      const state = await store.tryRead(`${device.backendPath}/state`);
      if (state !== String(XenbusState.initialising)) return;
      if ((await store.tryRead(`${device.backendPath}/hotplug-status`)) !== 'error') continue;
      const text = await store.tryRead(`${device.backendPath}/hotplug-error`);
      throw new XendError(hotplugFailure(device, { kind: 'error', text }) ?? '');
    }
  } finally {
    await changes.return();
  }
}

/** Waits for one device, when its class has hotplug. Throws XendError after it was closed. */
export async function waitForDevice(store: Store, device: ConnectedDevice, timeoutMs: number): Promise<void> {
  if (SCREEN_CLASSES.has(device.class)) await waitForDeviceModel(store, device);
  if (!WAITING_CLASSES.has(device.class)) return;
  const failure = hotplugFailure(device, await waitForBackend(store, device, timeoutMs));
  if (failure === undefined) return;
  await closeDevice(store, device);
  throw new XendError(failure);
}

/** Waits for every device that has a backend with hotplug; the first failure is thrown, after its device was closed. */
export async function waitForDevices(vm: Vm, store: Store, timeoutMs: number): Promise<void> {
  const outcomes = await Promise.allSettled(
    (await connectedDevices(vm, store)).map((device) => waitForDevice(store, device, timeoutMs)),
  );
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
}

/** Asks both ends to let go of a device: the backend sees online 0, then Closing. */
export async function closeDevice(store: Store, device: ConnectedDevice): Promise<void> {
  await store.transaction(async (t) => {
    if (!(await t.exists(device.backendPath))) return;
    await t.write(`${device.backendPath}/online`, '0');
    await t.write(`${device.backendPath}/state`, XenbusState.closing);
  });
}

/** Removes every trace of a device. */
export async function removeDevice(vm: Vm, store: Store, device: ConnectedDevice): Promise<void> {
  await removeBackend(store, device);
  await removeTree(store, device.frontendPath);
  await removeTree(store, `${vm.vmPath}/device/${device.class}/${device.devid}`);
}

/**
 * Waits until the backend of a device that was closed has let go of it, or was never there. False when `signal` aborts
 * before: the guest uses the device.
 */
export async function backendGone(store: Store, device: ConnectedDevice, signal: AbortSignal): Promise<boolean> {
  for await (const { path } of store.watch(device.backendPath, { signal })) {
    if (path !== device.backendPath && !/\/(state|hotplug-status)$/.test(path)) continue;
    const [state, hotplug] = await Promise.all([
      store.tryRead(`${device.backendPath}/state`),
      store.tryRead(`${device.backendPath}/hotplug-status`),
    ]);
    // Without hotplug-status no backend ever took it up, or it has gone again; with Closed it has let go.
    if (state === undefined || state === String(XenbusState.closed) || hotplug === undefined || hotplug === 'error')
      return true;
  }
  return false;
}

/** A signal that aborts after a time, or when `cancel` is called. */
export function timeLimit(timeoutMs: number): { readonly signal: AbortSignal; cancel(): void } {
  const abort = new AbortController();
  const timer = setTimeout(() => {
    abort.abort();
  }, timeoutMs);
  timer.unref();
  return {
    signal: abort.signal,
    cancel() {
      clearTimeout(timer);
      abort.abort();
    },
  };
}

/** After the domain is gone: gives the backend time to close, then removes what it left. */
export async function retireBackend(store: Store, device: ConnectedDevice): Promise<void> {
  const limit = timeLimit(BACKEND_RETIRE_TIMEOUT_MS);
  try {
    await backendGone(store, device, limit.signal);
  } finally {
    limit.cancel();
  }
  await removeBackend(store, device);
}

/** The backend's nodes, and the folder of the frontend's domain when that was its last device. */
async function removeBackend(store: Store, device: ConnectedDevice): Promise<void> {
  await removeTree(store, device.backendPath);
  const folder = device.backendPath.slice(0, device.backendPath.lastIndexOf('/'));
  if ((await store.exists(folder)) && (await store.tryDirectory(folder)).length === 0) await store.rm(folder);
}

/** The device of a class that a user means by a number or a name. Throws XendError. */
export async function findDevice(vm: Vm, store: Store, deviceClass: string, ref: string): Promise<ConnectedDevice> {
  const devices = await connectedDevices(vm, store, deviceClass);
  const word = ref.split('/').at(-1) ?? '';
  let devid = /^\d+$/.test(word) ? Number(word) : blockDeviceNumber(splitDiskName(word).dev)?.number;
  if (devid === undefined && deviceClass === 'vif') {
    for (const device of devices) {
      const mac = await store.tryRead(`${device.backendPath}/mac`);
      if (mac?.toLowerCase() === ref.toLowerCase()) devid = device.devid;
    }
  }
  const found = devices.find((device) => device.devid === devid);
  if (!found) throw new XendError(`Device ${ref} not connected`);
  return found;
}

/** Keys that getDeviceSxprs shows of a frontend, by class (facts, section 5). */
const FRONTEND_KEYS: Readonly<Record<string, readonly string[]>> = {
  vif: ['backend', 'backend-id', 'handle', 'mac', 'protocol', 'state', 'tx-ring-ref', 'rx-ring-ref', 'event-channel'],
  vbd: ['backend', 'backend-id', 'device-type', 'protocol', 'state', 'virtual-device', 'ring-ref', 'event-channel'],
};

/** `[[devid, [[key, value], ...]], ...]` as the frontends stand now. */
export async function deviceSxprs(vm: Vm, store: Store, deviceClass: string): Promise<SxpList> {
  const classes = deviceClass === 'vbd' ? ['vbd', 'tap', 'tap2'] : [deviceClass];
  const devices = (await Promise.all(classes.map((name) => connectedDevices(vm, store, name)))).flat();
  devices.sort((a, b) => a.devid - b.devid);
  return Promise.all(
    devices.map(async (device): Promise<Sxp> => {
      if (deviceClass === 'vusb') return [device.devid, await usbControllerSxpr(store, device)];
      const names = await store.tryDirectory(device.frontendPath);
      const order = FRONTEND_KEYS[deviceClass] ?? [];
      const keys = [
        ...order.filter((key) => names.includes(key)),
        ...names.filter((key) => !order.includes(key)).sort(),
      ];
      const values = await Promise.all(keys.map((key) => store.tryRead(`${device.frontendPath}/${key}`)));
      return [device.devid, keys.map((key, index): Sxp => [key, values[index] ?? ''])];
    }),
  );
}

/** A USB controller, which is told from its backend too (Xen 4.4 `vusbif.py`, sxprs). */
async function usbControllerSxpr(store: Store, { frontendPath, backendPath }: ConnectedDevice): Promise<Sxp> {
  const pair = async (path: string, key: string): Promise<Sxp> => [key, (await store.tryRead(`${path}/${key}`)) ?? ''];
  const ports: Sxp[] = [];
  const names = await store.tryDirectory(`${backendPath}/port`);
  for (const name of names.sort((a, b) => Number(a) - Number(b))) ports.push(await pair(`${backendPath}/port`, name));
  return [
    await pair(frontendPath, 'backend-id'),
    await pair(frontendPath, 'state'),
    await pair(frontendPath, 'backend'),
    await pair(backendPath, 'usb-ver'),
    await pair(backendPath, 'num-ports'),
    ['port', ...ports],
  ];
}
