/** One ring between a fake frontend and a disk in memory. */
import { localPrivcmd } from '@xenhost/privcmd';
import type { PrivcmdPort } from '@xenhost/privcmd';
import { FakeBackend } from '@xenhost/privcmd/testing';
import { Budget } from '../ring/budget.ts';
import { BufferPool } from '../ring/buffers.ts';
import { newStatistics } from '../ring/disk.ts';
import { BlkRing } from '../ring/ring.ts';
import { FakeFrontend } from './fake-frontend.ts';
import type { FrontendOptions, RequestSpec, Response } from './fake-frontend.ts';
import { MemoryDisk } from './memory-disk.ts';

export interface RingSceneOptions extends FrontendOptions {
  readonly sizeBytes?: number;
  readonly deviceBytes?: number;
}

export class RingScene {
  readonly backend = new FakeBackend();
  readonly open: () => PrivcmdPort;
  readonly disk: MemoryDisk;
  readonly front: FakeFrontend;
  readonly statistics = newStatistics();
  readonly faults: string[] = [];
  readonly refusals: unknown[] = [];
  readonly budget: Budget;
  #rings: BlkRing[] = [];
  #privcmd: PrivcmdPort | undefined;

  constructor({ sizeBytes = 1 << 20, deviceBytes = 1 << 20, ...frontend }: RingSceneOptions = {}) {
    const hub = localPrivcmd({}, this.backend);
    this.open = () => hub.open();
    this.disk = new MemoryDisk(sizeBytes);
    this.front = new FakeFrontend(this.backend, 1, frontend);
    this.budget = new Budget({ deviceBytes, allBytes: 64 << 20, turnBytes: 1 << 20 });
  }

  /** The ring that serves now. */
  get ring(): BlkRing {
    const [ring] = this.#rings;
    if (!ring) throw new Error('nobody serves');
    return ring;
  }

  /** A process that begins to serve, with its own connection. */
  async serve(front = this.front): Promise<BlkRing> {
    const privcmd = this.#privcmd ?? this.open();
    this.#privcmd = privcmd;
    const port = await privcmd.bindInterdomain(front.domid, front.port);
    const share = this.budget.share({ roomAgain: () => { ring.roomAgain(); } }); // prettier-ignore
    const ring: BlkRing = new BlkRing(
      { domid: front.domid, ringRefs: front.ringRefs, port, width: front.width },
      {
        ...{ privcmd, disk: this.disk, share, pool: new BufferPool(8 << 20), statistics: this.statistics },
        onFault: (reason) => this.faults.push(reason),
        onRefused: (reason) => this.refusals.push(reason),
      },
    );
    this.#rings.push(ring);
    privcmd.onEvent((raised, reads) => {
      if (raised === port) ring.event(reads);
    });
    if (!(await ring.start())) throw new Error('the ring cannot be read');
    return ring;
  }

  /** The process dies: whatever it had begun, nothing of it reaches the guest any more. */
  async kill(): Promise<void> {
    await this.#privcmd?.close();
    this.#privcmd = undefined;
    this.#rings = [];
  }

  /** Waits for a number of responses. */
  async responses(count: number): Promise<Response[]> {
    const found: Response[] = [];
    await until(() => {
      found.push(...this.front.responses());
      return found.length >= count || this.faults.length > 0;
    });
    return found;
  }

  /** Sends requests and waits for as many responses. */
  async ask(...requests: readonly RequestSpec[]): Promise<Response[]> {
    this.front.send(...requests);
    return this.responses(requests.length);
  }

  async stop(): Promise<void> {
    this.disk.release();
    await Promise.all(this.#rings.map((ring) => ring.stop()));
    await this.#privcmd?.close();
  }
}

const PATIENCE_MS = 30_000;

/** Runs the event loop until something holds; throws when it does not come to hold. */
export async function until(condition: () => boolean): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  for (let turns = 0; !condition(); turns++) {
    if (performance.now() > deadline) throw new Error('it does not come to hold');
    await new Promise((resolve) => (turns > 50 ? setTimeout(resolve, 1) : setImmediate(resolve)));
  }
}

/** Lets everything happen that is going to happen by itself. */
export async function quiet(): Promise<void> {
  for (let turns = 0; turns < 30; turns++) await new Promise((resolve) => setImmediate(resolve));
}
