/**
 * The backend's side of split devices in xenstore: follows `/local/domain/0/backend/<class>/<frontend domid>/<device id>` and
 * hands each device that is new or changed to a handler. Knows nothing of rings.
 */
import { XenbusState } from '@xenhost/xen-abi';
import type { XenstoreClient } from './client.ts';
import type { XenstoreAccess } from './access.ts';
import { isXenstoreError } from './errors.ts';

export interface BackendDevice {
  /** Directory of the backend's nodes. */
  readonly path: string;
  readonly frontendDomid: number;
  readonly deviceId: number;
}

/** Called for a device when something below its directory changed, one call after the other; must cope with its being gone. */
export type BackendHandler = (device: BackendDevice) => Promise<void>;

/**
 * Follows all devices of a class until the signal aborts. Rejects when the connection breaks. An error of the handler goes to
 * `onError` and costs only that call.
 */
export async function followBackend(
  xenstore: XenstoreClient,
  deviceClass: string,
  handler: BackendHandler,
  onError: (error: unknown, device: BackendDevice) => void,
  signal: AbortSignal,
): Promise<void> {
  const base = `/local/domain/0/backend/${deviceClass}`;
  for await (const { path } of xenstore.watch(base, { signal })) {
    for (const device of await devicesAt(xenstore, base, path)) {
      try {
        await handler(device);
      } catch (error) {
        onError(error, device);
      }
    }
  }
}

/** The devices that a changed path is about: one, or all below it. */
async function devicesAt(xenstore: XenstoreClient, base: string, path: string): Promise<BackendDevice[]> {
  const [domid, deviceId] = path.slice(base.length + 1).split('/');
  if (domid && deviceId) return [device(base, domid, deviceId)].filter(isNumbered);
  const devices: BackendDevice[] = [];
  for (const each of domid ? [domid] : await xenstore.tryDirectory(base)) {
    for (const id of await xenstore.tryDirectory(`${base}/${each}`)) devices.push(device(base, each, id));
  }
  return devices.filter(isNumbered);
}

const device = (base: string, domid: string, id: string): BackendDevice => ({
  path: `${base}/${domid}/${id}`,
  frontendDomid: Number(domid),
  deviceId: Number(id),
});

const isNumbered = ({ frontendDomid, deviceId }: BackendDevice): boolean =>
  Number.isInteger(frontendDomid) && Number.isInteger(deviceId);

/**
 * Answers one device that this backend cannot serve: `hotplug-status` becomes `error` with `reason` beside it, which the toolstack shows
 * at once; a device that is being closed is let go. Resolves to what was done.
 */
function refuseDevice(
  xenstore: XenstoreClient,
  path: string,
  reason: string,
): Promise<'refused' | 'closed' | 'nothing'> {
  return xenstore.transaction(async (t) => {
    const [state, online, status] = await Promise.all(
      ['state', 'online', 'hotplug-status'].map((key) => t.tryRead(`${path}/${key}`)),
    );
    if (state === undefined) return 'nothing';
    if (online === '0' || Number(state) === XenbusState.Closing) {
      if (Number(state) === XenbusState.Closed && status === undefined) return 'nothing';
      await removeIfThere(t, `${path}/hotplug-status`);
      await removeIfThere(t, `${path}/hotplug-error`);
      await t.write(`${path}/state`, XenbusState.Closed);
      return 'closed';
    }
    if (status !== undefined) return 'nothing';
    // The text first: whoever waits for the status reads it next.
    await t.write(`${path}/hotplug-error`, reason);
    await t.write(`${path}/hotplug-status`, 'error');
    return 'refused';
  });
}

/** The part of a daemon's logger that a refusing backend uses. */
export interface RefusalLog {
  info(data: object, text: string): void;
  error(data: object, text: string): void;
}

/** Refuses every device of a class until the signal aborts. Rejects when the connection breaks. */
export function refuseDevices(
  xenstore: XenstoreClient,
  { deviceClass, reason }: { readonly deviceClass: string; readonly reason: string },
  log: RefusalLog,
  signal: AbortSignal,
): Promise<void> {
  return followBackend(
    xenstore,
    deviceClass,
    async ({ path }) => {
      const done = await refuseDevice(xenstore, path, reason);
      if (done !== 'nothing') log.info({ path, done }, 'device');
    },
    (error, { path }) => {
      log.error({ path, err: error }, 'cannot answer a device');
    },
    signal,
  );
}

async function removeIfThere(t: XenstoreAccess, path: string): Promise<void> {
  await t.rm(path).catch((error: unknown) => {
    if (!isXenstoreError(error, 'ENOENT')) throw error;
  });
}
