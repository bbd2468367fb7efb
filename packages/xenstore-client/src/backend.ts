/**
 * The backend's side of split devices in xenstore: follows `/local/domain/0/backend/<class>/<frontend domid>/<device id>` and
 * hands each device that is new or changed to a handler. Knows nothing of rings.
 */
import type { XenstoreClient } from './client.ts';

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
