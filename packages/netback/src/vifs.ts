/** All vifs of the host: each device below `/local/domain/0/backend/vif` has one. */
import type { Logger } from '@xenhost/daemon-kit';
import type { PrivcmdPort } from '@xenhost/privcmd';
import { followBackend } from '@xenhost/xenstore-client';
import type { BackendDevice, XenstoreClient } from '@xenhost/xenstore-client';
import type { StatisticsFiles } from './statistics.ts';
import type { Switches } from './switch/frame.ts';
import { Batches } from './vif/batches.ts';
import type { QueueBudget } from './vif/counters.ts';
import { VifDevice } from './vif/device.ts';
import { EventPorts } from './vif/event-ports.ts';
import { PagedReceivers } from './vif/paged-frame.ts';

/** The directory of this backend's devices in xenstore. */
export const DEVICE_CLASS = 'vif';

export interface VifsModules {
  readonly privcmd: PrivcmdPort;
  readonly xenstore: XenstoreClient;
  readonly switches: Switches;
  readonly log: Logger;
  readonly files: StatisticsFiles;
}

export class Vifs {
  readonly #m: VifsModules;
  readonly #ports: EventPorts;
  readonly #batches: Batches;
  readonly #budget: QueueBudget = { bytes: 0 };
  readonly #paged = new PagedReceivers();
  readonly #devices = new Map<string, VifDevice>();

  constructor(modules: VifsModules) {
    this.#m = modules;
    this.#ports = new EventPorts(modules.privcmd);
    this.#batches = new Batches(modules.privcmd);
  }

  get devices(): Iterable<VifDevice> {
    return this.#devices.values();
  }

  /** Bytes that wait for guests. */
  get queuedBytes(): number {
    return this.#budget.bytes;
  }

  /** Serves until the signal aborts; rejects when xenstored is gone. */
  run(signal: AbortSignal): Promise<void> {
    const { xenstore, log } = this.#m;
    return followBackend(
      xenstore,
      DEVICE_CLASS,
      (device) => {
        this.#changed(device);
        return Promise.resolve();
      },
      (error, { path }) => {
        log.error({ path, err: error }, 'cannot answer a device');
      },
      signal,
    );
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#devices.values()].map((device) => device.stop()));
  }

  #changed(device: BackendDevice): void {
    const vif = this.#devices.get(device.path) ?? this.#begin(device);
    vif.changed().catch((error: unknown) => {
      this.#m.log.error({ path: device.path, err: error }, 'vif failed');
    });
  }

  #begin(device: BackendDevice): VifDevice {
    const { privcmd, xenstore, switches, log, files } = this.#m;
    const vif = new VifDevice(device, {
      privcmd,
      xenstore,
      switches,
      log,
      ports: this.#ports,
      batches: this.#batches,
      budget: this.#budget,
      paged: this.#paged,
      onGone: (gone) => {
        this.#end(device.path, gone);
      },
    });
    this.#devices.set(device.path, vif);
    files.begin(vif).catch((error: unknown) => {
      log.warn({ vif: vif.id, err: error }, 'no statistics');
    });
    return vif;
  }

  #end(path: string, vif: VifDevice): void {
    // Another of this path may have come meanwhile.
    if (this.#devices.get(path) !== vif) return;
    this.#devices.delete(path);
    this.#m.files.end(vif.id).catch((error: unknown) => {
      this.#m.log.warn({ vif: vif.id, err: error }, 'statistics stay behind');
    });
  }
}
