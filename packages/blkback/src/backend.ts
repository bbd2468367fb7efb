/** All block devices: found in xenstore, their rings served by the events of one connection to the hypervisor. */
import { domid as domidOf } from '@xenhost/base';
import type { EvtchnPort } from '@xenhost/base';
import type { Logger } from '@xenhost/daemon-kit';
import type { PrivcmdPort } from '@xenhost/privcmd';
import type { XenstoreClient } from '@xenhost/xenstore-client';
import { Vbd } from './device/vbd.ts';
import { ImageShares } from './image/shares.ts';
import { ALL_BYTES_IN_WORK, DEVICE_BYTES_IN_WORK, MAX_DEVICES, RESIZE_CHECK_MS, TURN_BYTES } from './limits.ts';
import { Budget } from './ring/budget.ts';
import { BufferPool } from './ring/buffers.ts';
import type { BlkRing } from './ring/ring.ts';

/** Classes of block devices as xend lays them out; to guests all are vbds. */
export const DEVICE_CLASSES = ['vbd', 'tap', 'tap2'] as const;

export interface BlockBackendOptions {
  readonly persistentGrants: boolean;
}

export interface BlockBackendModules {
  readonly privcmd: PrivcmdPort;
  readonly xenstore: XenstoreClient;
  readonly log: Logger;
  /** A device is no longer there. */
  readonly onGone?: (vbd: Vbd) => void;
}

/** Data that waits for a guest's answers longer than this is left to a successor. */
const STOP_PATIENCE_MS = 2000;

export class BlockBackend {
  readonly #options: BlockBackendOptions;
  readonly #modules: BlockBackendModules;
  readonly #vbds = new Map<string, Vbd>();
  readonly #rings = new Map<EvtchnPort, BlkRing>();
  readonly #shares = new ImageShares();
  readonly #pool = new BufferPool(DEVICE_BYTES_IN_WORK * 2);
  readonly budget = new Budget({
    deviceBytes: DEVICE_BYTES_IN_WORK,
    allBytes: ALL_BYTES_IN_WORK,
    turnBytes: TURN_BYTES,
  });
  readonly #stopping = new AbortController();
  #resizeTimer: NodeJS.Timeout | undefined;

  constructor(options: BlockBackendOptions, modules: BlockBackendModules) {
    this.#options = options;
    this.#modules = modules;
  }

  get devices(): readonly Vbd[] {
    return [...this.#vbds.values()];
  }

  /** Serves until `stop`; rejects when xenstored is gone for good. */
  async run(): Promise<void> {
    const { privcmd } = this.#modules;
    privcmd.onEvent((port, reads) => {
      this.#rings.get(port)?.event(reads);
    });
    this.#resizeTimer = setInterval(() => {
      for (const vbd of this.#vbds.values()) void vbd.checkSize();
    }, RESIZE_CHECK_MS).unref();
    await Promise.all(DEVICE_CLASSES.map((deviceClass) => this.#follow(deviceClass)));
  }

  /** Ends service; devices stay as they are in xenstore, for a successor. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    clearInterval(this.#resizeTimer);
    await Promise.all(this.devices.map((vbd) => vbd.stop(STOP_PATIENCE_MS)));
  }

  async #follow(deviceClass: string): Promise<void> {
    const base = `/local/domain/0/backend/${deviceClass}`;
    for await (const { path } of this.#modules.xenstore.watch(base, { signal: this.#stopping.signal })) {
      const [domid, deviceId] = path.slice(base.length + 1).split('/');
      if (domid && deviceId) {
        this.#poke(base, domid, deviceId);
        continue;
      }
      // A folder of devices: those that are there, and those that were.
      for (const [known, vbd] of this.#vbds) if (known.startsWith(`${path}/`)) vbd.poke();
      for (const each of domid ? [domid] : await this.#modules.xenstore.tryDirectory(base)) {
        const ids = await this.#modules.xenstore.tryDirectory(`${base}/${each}`);
        for (const id of ids) this.#poke(base, each, id);
      }
    }
  }

  #poke(base: string, domid: string, deviceId: string): void {
    if (!isNumber(domid) || !isNumber(deviceId) || this.#stopping.signal.aborted) return;
    const path = `${base}/${domid}/${deviceId}`;
    let vbd = this.#vbds.get(path);
    if (!vbd) {
      if (this.#vbds.size >= MAX_DEVICES) {
        this.#modules.log.error({ path, limit: MAX_DEVICES }, 'too many block devices');
        return;
      }
      vbd = new Vbd(
        { path, domid: domidOf(Number(domid)), deviceId: Number(deviceId), ...this.#options },
        {
          ...{ ...this.#modules, shares: this.#shares, budget: this.budget, pool: this.#pool, rings: this.#rings },
          onGone: (gone, again) => {
            this.#vbds.delete(path);
            this.#modules.onGone?.(gone);
            if (again) this.#poke(base, domid, deviceId);
          },
        },
      );
      this.#vbds.set(path, vbd);
    }
    vbd.poke();
  }
}

const isNumber = (text: string): boolean => /^\d{1,9}$/.test(text);
