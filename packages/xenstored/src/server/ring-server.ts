/**
 * The rings of introduced domains: requests are read from, and replies written to, a page in each guest's memory, by
 * batched copies through privcmd. The indices that this end owns (req_cons, rsp_prod) are kept here and never read back; those
 * that the guest owns are checked, and a wild one costs the guest its session until it is introduced again.
 */
import { bytesOf, domid as domidOf, evtchnPort, grantRef } from '@xenhost/base';
import type { EvtchnPort } from '@xenhost/base';
import type { Logger } from '@xenhost/daemon-kit';
import type { MemoryOp, PrivcmdPort, RemotePage } from '@xenhost/privcmd';
import { advance, appendToRing, copyFromRing, ringUsed, u32Bytes } from '@xenhost/pv-ring';
import {
  GNTTAB_RESERVED_XENSTORE,
  XENSTORE_RING_SIZE,
  XenstoreDomainInterface as Page,
  XenstoreRingError,
} from '@xenhost/xen-abi';
import type { XenstoreRingErrorCode } from '@xenhost/xen-abi';
import { XsPacketParser } from '@xenhost/xs-wire';
import type { XsPacket } from '@xenhost/xs-wire';
import type { StoreConnection } from '../core/connection.ts';
import type { DomainGate, XenstoreCore } from '../core/core.ts';

/** The part of the page that is read in a round: the request ring, and all indices. */
const READ_BYTES = Page.offsets.server_features;
const RSP_RING = { base: Page.offsets.rsp, size: XENSTORE_RING_SIZE, prodOffset: Page.offsets.rsp_prod };
/** Indices, features, connection state and error: zero in a fresh ring. */
const CONTROL_BYTES = Page.size - Page.offsets.req_cons;

export interface RingServerModules {
  readonly privcmd: PrivcmdPort;
  readonly log: Logger;
  /** Called after each introduction: the domain may have died meanwhile. */
  readonly onIntroduced: () => void;
}

export class RingServer implements DomainGate {
  readonly #privcmd: PrivcmdPort;
  readonly #log: Logger;
  readonly #onIntroduced: () => void;
  readonly #byDomid = new Map<number, Ring>();
  readonly #byPort = new Map<EvtchnPort, Ring>();
  #core: XenstoreCore | undefined;

  constructor(modules: RingServerModules) {
    this.#privcmd = modules.privcmd;
    this.#log = modules.log;
    this.#onIntroduced = modules.onIntroduced;
    modules.privcmd.onEvent((port) => {
      this.#byPort.get(port)?.guestEvent();
    });
  }

  /** Gives the core that requests go to; before any introduction. */
  attach(core: XenstoreCore): void {
    this.#core = core;
  }

  async introduce(connection: StoreConnection, mfn: bigint, remotePort: number): Promise<void> {
    const core = this.#core;
    if (!core) throw new Error('RingServer.attach was not called');
    const { domid } = connection;
    this.release(domid);
    const page = await this.#findPage(domid, mfn);
    const port = await this.#privcmd.bindInterdomain(domidOf(domid), evtchnPort(remotePort));
    const [cleared] = await this.#privcmd.memory([
      { kind: 'write', page, offset: Page.offsets.req_cons, data: new Uint8Array(CONTROL_BYTES) },
      { kind: 'notify', port },
    ]);
    if (cleared?.status !== 0) {
      await this.#privcmd.unbind(port);
      throw Object.assign(new Error(`ring page of domain ${domid} is not writable`), { code: 'EINVAL' });
    }
    const ring = new Ring(connection, page, port, { core, privcmd: this.#privcmd, log: this.#log });
    this.#byDomid.set(domid, ring);
    this.#byPort.set(port, ring);
    // Not before the core has made the domain known.
    setImmediate(() => {
      this.#onIntroduced();
      ring.guestEvent();
    });
  }

  release(domid: number): void {
    const ring = this.#byDomid.get(domid);
    if (!ring) return;
    ring.stop();
    this.#byDomid.delete(domid);
    this.#byPort.delete(ring.port);
    this.#privcmd.unbind(ring.port).catch((error: unknown) => {
      this.#log.debug({ domid, err: error }, 'event channel was gone');
    });
  }

  /** The toolstack grants the page to Domain-0 under a reserved reference; older ones rely on its frame number alone. */
  async #findPage(domid: number, mfn: bigint): Promise<RemotePage> {
    const candidates: RemotePage[] = [
      { space: 'grant', domid: domidOf(domid), gref: grantRef(GNTTAB_RESERVED_XENSTORE) },
      { space: 'foreign', domid: domidOf(domid), gfn: Number(mfn) },
    ];
    const results = await this.#privcmd.memory(
      candidates.map((page): MemoryOp => ({ kind: 'read', page, offset: Page.offsets.req_cons, length: 4 })),
    );
    const found = candidates.find((_, i) => results[i]?.status === 0);
    if (found) return found;
    throw Object.assign(new Error(`cannot reach the xenstore ring of domain ${domid} (mfn ${mfn})`), {
      code: 'EINVAL',
    });
  }
}

interface RingModules {
  readonly core: XenstoreCore;
  readonly privcmd: PrivcmdPort;
  readonly log: Logger;
}

/** One domain's ring. At most one round is under way; events meanwhile ask for another. */
class Ring {
  readonly port: EvtchnPort;
  readonly #connection: StoreConnection;
  readonly #page: RemotePage;
  readonly #modules: RingModules;
  readonly #parser = new XsPacketParser();
  /** Requests taken from the ring that wait for room for replies, or for an introduction. */
  #waiting: XsPacket[] = [];
  #reqCons = 0;
  #rspProd = 0;
  /** As last read; the guest can only have freed more room since. */
  #rspCons = 0;
  #state: 'open' | 'ignored' | 'stopped' = 'open';
  #running = false;
  /** The guest has sent an event since the page was last read. */
  #eventPending = false;
  #wakePending = false;
  /** Requests were seen in the ring and not taken, because earlier ones wait. */
  #leftInRing = false;

  constructor(connection: StoreConnection, page: RemotePage, port: EvtchnPort, modules: RingModules) {
    this.#connection = connection;
    this.#page = page;
    this.port = port;
    this.#modules = modules;
    connection.wake = () => {
      this.#wakePending = true;
      this.#run();
    };
  }

  guestEvent(): void {
    this.#eventPending = true;
    this.#run();
  }

  stop(): void {
    this.#state = 'stopped';
    this.#connection.wake = () => undefined;
  }

  #run(): void {
    if (this.#running || this.#state !== 'open') return;
    this.#running = true;
    // A microtask later, so that what one request of another client causes leaves in one batch.
    queueMicrotask(() => {
      this.#rounds().then(
        () => {
          this.#running = false;
          if (this.#eventPending || this.#wakePending) this.#run();
        },
        (error: unknown) => {
          this.#running = false;
          this.#state = 'ignored';
          this.#modules.log.warn({ domid: this.#connection.domid, err: error }, 'ring failed');
        },
      );
    });
  }

  async #rounds(): Promise<void> {
    while (this.#state === 'open' && (this.#eventPending || this.#wakePending)) {
      this.#wakePending = false;
      const { output } = this.#connection;
      const room = XENSTORE_RING_SIZE - ((this.#rspProd - this.#rspCons) >>> 0);
      let reqConsBefore = this.#reqCons;
      if (this.#eventPending || output.bytes > room) {
        this.#eventPending = false;
        reqConsBefore = this.#reqCons;
        if (!(await this.#read())) return;
      }
      this.#work();
      await this.#write(reqConsBefore);
      // Replies that went out make room for held-back requests.
      if (this.#waiting.length > 0 && this.#mayWork()) this.#wakePending = true;
    }
  }

  /** Reads the page and takes the requests in it, unless earlier ones still wait. False when the round is over. */
  async #read(): Promise<boolean> {
    const { privcmd, log } = this.#modules;
    const [result] = await privcmd.memory([{ kind: 'read', page: this.#page, offset: 0, length: READ_BYTES }]);
    const { domid } = this.#connection;
    if (this.#state !== 'open') return false;
    if (result?.data?.length !== READ_BYTES) {
      // The domain is on its way out; @releaseDomain will follow.
      log.debug({ domid, status: result?.status }, 'ring page is gone');
      this.#state = 'ignored';
      return false;
    }
    const page = Page.view(bytesOf(result.data), 0);
    const rspCons = page.rsp_cons;
    const pending = ringUsed(page.req_prod, this.#reqCons, XENSTORE_RING_SIZE);
    if (pending === undefined || ringUsed(this.#rspProd, rspCons, XENSTORE_RING_SIZE) === undefined) {
      await this.#ignore(XenstoreRingError.RINGIDX);
      return false;
    }
    this.#rspCons = rspCons;
    this.#leftInRing = pending > 0 && this.#waiting.length > 0;
    if (pending === 0 || this.#leftInRing) return true;
    const bytes = copyFromRing(
      result.data.subarray(Page.offsets.req, Page.offsets.req + XENSTORE_RING_SIZE),
      this.#reqCons,
      pending,
    );
    this.#reqCons = advance(this.#reqCons, pending);
    this.#waiting = this.#parser.push(bytes);
    if (this.#parser.violated) {
      await this.#ignore(XenstoreRingError.PROTO);
      return false;
    }
    return true;
  }

  #mayWork(): boolean {
    const { busy, output } = this.#connection;
    return !busy && output.replies < this.#modules.core.quotas.outstanding;
  }

  #work(): void {
    let done = 0;
    for (const packet of this.#waiting) {
      if (!this.#mayWork()) break;
      this.#modules.core.handle(this.#connection, packet);
      done++;
    }
    if (done === 0) return;
    this.#waiting = this.#waiting.slice(done);
    // Requests that came while some waited were left in the ring.
    if (this.#waiting.length === 0) this.#eventPending ||= this.#leftInRing;
  }

  async #write(reqConsBefore: number): Promise<void> {
    const page = this.#page;
    const room = XENSTORE_RING_SIZE - ((this.#rspProd - this.#rspCons) >>> 0);
    const data = this.#connection.output.take(room);
    const ops: MemoryOp[] = [];
    if (data.length > 0) {
      for (const write of appendToRing(RSP_RING, this.#rspProd, data)) ops.push({ kind: 'write', page, ...write });
      this.#rspProd = advance(this.#rspProd, data.length);
    }
    if (this.#reqCons !== reqConsBefore) {
      ops.push({ kind: 'write', page, offset: Page.offsets.req_cons, data: u32Bytes(this.#reqCons) });
    }
    if (ops.length === 0) return;
    ops.push({ kind: 'notify', port: this.port });
    // A guest that saw the old req_cons sends no event for what it appended meanwhile: look once more.
    ops.push({ kind: 'read', page, offset: Page.offsets.req_prod, length: 4 });
    const results = await this.#modules.privcmd.memory(ops);
    const reqProd = results.at(-1)?.data;
    if (reqProd?.length === 4 && bytesOf(reqProd).dv.getUint32(0, true) !== this.#reqCons) this.#eventPending = true;
  }

  /** The guest broke the rules: its session ends until it is introduced again; others do not notice. */
  async #ignore(error: XenstoreRingErrorCode): Promise<void> {
    const { core, log, privcmd } = this.#modules;
    this.#state = 'ignored';
    this.#waiting = [];
    log.warn({ domid: this.#connection.domid, error }, 'domain broke the ring protocol, ignored');
    core.ignore(this.#connection);
    await privcmd.memory([{ kind: 'write', page: this.#page, offset: Page.offsets.error, data: u32Bytes(error) }]);
  }
}
