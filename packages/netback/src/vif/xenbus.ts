/** The backend's directory of one vif in xenstore: what is written there, never into one that the toolstack has removed. */
import { isXenstoreError } from '@xenhost/xenstore-client';
import type { XenstoreAccess, XenstoreClient } from '@xenhost/xenstore-client';
import { XenbusState } from '@xenhost/xen-abi';
import type { XenbusStateCode } from '@xenhost/xen-abi';
import { MAX_QUEUES } from './limits.ts';

/** What frontends may make use of, as Linux's xen-netback offers it. */
export const FEATURES: Readonly<Record<string, string>> = {
  'feature-sg': '1',
  'feature-gso-tcpv4': '1',
  'feature-gso-tcpv6': '1',
  'feature-ipv6-csum-offload': '1',
  'feature-rx-copy': '1',
  'feature-rx-flip': '0',
  'feature-multicast-control': '1',
  'feature-dynamic-multicast-control': '1',
  'feature-split-event-channels': '1',
  'multi-queue-max-queues': String(MAX_QUEUES),
  'feature-ctrl-ring': '1',
};

export class BackendDirectory {
  readonly path: string;
  readonly #xenstore: XenstoreClient;

  constructor(path: string, xenstore: XenstoreClient) {
    this.path = path;
    this.#xenstore = xenstore;
  }

  /** All nodes with their values; empty when the directory is gone. */
  async read(): Promise<ReadonlyMap<string, string>> {
    const names = await this.#xenstore.tryDirectory(this.path);
    const values = await Promise.all(names.map((name) => this.#xenstore.tryRead(`${this.path}/${name}`)));
    return new Map(names.map((name, index) => [name, values[index] ?? '']));
  }

  /** False when the directory is gone. */
  async write(nodes: Readonly<Record<string, string | number>>): Promise<boolean> {
    return this.#ifThere(async (t) => {
      for (const [key, value] of Object.entries(nodes)) await t.write(`${this.path}/${key}`, value);
    });
  }

  /** The toolstack wants the vif gone, and it is. */
  async closed(): Promise<void> {
    await this.#ifThere(async (t) => {
      for (const key of ['hotplug-status', 'hotplug-error']) await removeIfThere(t, `${this.path}/${key}`);
      if ((await t.tryRead(`${this.path}/state`)) !== String(XenbusState.Closed)) {
        await t.write(`${this.path}/state`, XenbusState.Closed);
      }
    });
  }

  /** Writes the state when it is another. */
  async state(state: XenbusStateCode): Promise<void> {
    await this.#ifThere(async (t) => {
      if ((await t.tryRead(`${this.path}/state`)) !== String(state)) await t.write(`${this.path}/state`, state);
    });
  }

  /** Tells Domain-0's administrator, as xenbus_dev_error does: /local/domain/0/error/backend/vif/1/0/error. */
  async error(text: string): Promise<void> {
    await this.#xenstore.write(`${this.#errorPath}/error`, text);
  }

  async clearError(): Promise<void> {
    await removeIfThere(this.#xenstore, this.#errorPath);
  }

  get #errorPath(): string {
    return this.path.replace('/backend/', '/error/backend/');
  }

  async #ifThere(body: (t: XenstoreAccess) => Promise<void>): Promise<boolean> {
    return this.#xenstore.transaction(async (t) => {
      if (!(await t.exists(`${this.path}/state`))) return false;
      await body(t);
      return true;
    });
  }
}

async function removeIfThere(t: XenstoreAccess, path: string): Promise<void> {
  await t.rm(path).catch((error: unknown) => {
    if (!isXenstoreError(error, 'ENOENT')) throw error;
  });
}
