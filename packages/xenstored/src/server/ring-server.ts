/**
 * The rings of introduced domains: pages in the guests' memory, reached through privcmd. All rings that have something to do share
 * one batch: replies, indices and notifications of some, requests of others. A few batches are under way at a time, no ring is in two
 * of them; what comes meanwhile is in the next.
 */
import { bytesOf, domid as domidOf, evtchnPort, grantRef } from '@xenhost/base';
import type { EvtchnPort } from '@xenhost/base';
import type { Logger } from '@xenhost/daemon-kit';
import type { MemoryOp, MemoryResult, PrivcmdPort, RemotePage } from '@xenhost/privcmd';
import { u32Bytes } from '@xenhost/pv-ring';
import { GNTTAB_RESERVED_XENSTORE, XenstoreDomainInterface as Page } from '@xenhost/xen-abi';
import type { XenstoreRingErrorCode } from '@xenhost/xen-abi';
import { XsOp } from '@xenhost/xs-wire';
import type { XsPacket } from '@xenhost/xs-wire';
import type { StoreConnection } from '../core/connection.ts';
import type { XenstoreCore } from '../core/core.ts';
import type { DomainGate } from '../core/ports.ts';
import { BATCHES_IN_FLIGHT, EXPIRY_PERIOD_MS, RINGS_PER_BATCH } from './limits.ts';
import { Ring } from './ring.ts';
import type { RingOutcome, RingState } from './ring.ts';

const { offsets } = Page;
/** Indices, features, connection state and error: zero in a fresh ring. */
const CONTROL_BYTES = Page.size - offsets.req_cons;
const INDEX_BYTES = offsets.server_features - offsets.req_cons;
const NO_BYTES = Buffer.alloc(0);

export interface RingServerModules {
  readonly privcmd: PrivcmdPort;
  readonly log: Logger;
  /** Called after each introduction: the domain may have died meanwhile. */
  readonly onIntroduced: () => void;
  /** Called before a batch is sent: what it may tell of must be on record. */
  readonly beforeSend: () => void;
  readonly records: RingRecords;
}

/** What has to be known of a guest's session when this process ends without a word. */
export interface RingRecords {
  /** The guest has watched, unwatched, or been reset. */
  watchesChanged(connection: StoreConnection): void;
  /** Grows with whatever is noted. */
  readonly notedBytes: number;
  /** A request that changed something has been run: it ends in front of this index. Its successor is not to run it again. */
  requestDone(domid: number, reqCons: number): void;
  /** What the next batch leaves besides the page; empty when the page tells all again. */
  ringState(domid: number, state: RingState): void;
}

const WATCH_OPERATIONS: ReadonlySet<number> = new Set([XsOp.WATCH, XsOp.UNWATCH, XsOp.RESET_WATCHES]);

interface Session {
  readonly ring: Ring;
  /** In the line for the next batch. */
  queued: boolean;
  /** A batch under way has steps of it. */
  inFlight: boolean;
  /** A timer will put it in the line. */
  delayed: boolean;
  state: 'held' | 'open' | 'ignored' | 'stopped';
  /** The last record was more than nothing. */
  recorded: boolean;
}

/** A ring's steps in a batch: `from` up to before `to`. */
interface InBatch {
  readonly session: Session;
  readonly from: number;
  readonly to: number;
}

export class RingServer implements DomainGate {
  readonly #modules: RingServerModules;
  readonly #privcmd: PrivcmdPort;
  readonly #log: Logger;
  readonly #byDomid = new Map<number, Session>();
  readonly #byPort = new Map<EvtchnPort, Session>();
  #core: XenstoreCore | undefined;
  readonly #line: Session[] = [];
  /** With events that will be dropped when their guest does not take them. */
  readonly #slow = new Set<Session>();
  #expiry: NodeJS.Timeout | undefined;
  #scheduled = false;
  #inFlight = 0;
  #frozen = false;
  #idle: () => void = () => undefined;

  constructor(modules: RingServerModules) {
    this.#modules = modules;
    this.#privcmd = modules.privcmd;
    this.#log = modules.log;
    modules.privcmd.onEvent((port, reads) => {
      const session = this.#byPort.get(port);
      if (session) this.#event(session, reads);
    });
  }

  /** Gives the core that requests go to; before any introduction. */
  attach(core: XenstoreCore): void {
    this.#core = core;
  }

  async introduce(connection: StoreConnection, mfn: bigint, remotePort: number): Promise<void> {
    const { domid } = connection;
    this.release(domid);
    const page = await this.#findPage(domid, mfn);
    const port = await this.#privcmd.bindInterdomain(domidOf(domid), evtchnPort(remotePort));
    const [cleared] = await this.#privcmd.memory([
      { kind: 'write', page, offset: offsets.req_cons, data: new Uint8Array(CONTROL_BYTES) },
      { kind: 'notify', port },
    ]);
    if (cleared?.status !== 0) {
      await this.#privcmd.unbind(port);
      throw invalid(`ring page of domain ${domid} is not writable`);
    }
    const fresh = { reqCons: 0, rspProd: 0, rspCons: 0, head: NO_BYTES, tail: NO_BYTES };
    const session = this.#open(connection, page, port, fresh);
    // Not before the core has made the domain known.
    setImmediate(() => {
      this.#modules.onIntroduced();
      this.#event(session);
    });
  }

  /**
   * Connects a ring where an earlier daemon left it; nothing is done on it before `resume()`. `states` are what that one may have left
   * besides the page; the one whose indices the page has is true. `done` are the ends of requests that it may have run without putting
   * the reply into the ring.
   */
  async reconnect(
    connection: StoreConnection,
    mfn: bigint,
    remotePort: number,
    { states, done }: { readonly states: readonly RingState[]; readonly done: readonly number[] },
  ): Promise<void> {
    const { domid } = connection;
    const page = await this.#findPage(domid, mfn);
    const port = await this.#privcmd.bindInterdomain(domidOf(domid), evtchnPort(remotePort));
    const [read] = await this.#privcmd.memory([{ kind: 'read', page, offset: offsets.req_cons, length: INDEX_BYTES }]);
    if (read?.data?.length !== INDEX_BYTES) throw invalid(`ring page of domain ${domid} is not readable`);
    const indices = Page.view(bytesOf(Buffer.concat([new Uint8Array(offsets.req_cons), read.data])), 0);
    const { req_cons: reqCons, rsp_prod: rspProd, rsp_cons: rspCons } = indices;
    const left = states.find((state) => state.reqCons === reqCons && state.rspProd === rspProd);
    const { head, tail } = left ?? { head: NO_BYTES, tail: NO_BYTES };
    const session = this.#open(connection, page, port, { reqCons, rspProd, rspCons, head, tail });
    session.recorded = left !== undefined;
    session.ring.skip(done);
    session.state = 'held';
  }

  /** Goes on with the rings that were connected again. */
  resume(): void {
    for (const session of this.#byDomid.values()) {
      if (session.state !== 'held') continue;
      session.state = 'open';
      this.#event(session);
    }
  }

  /** Connected rings, of which a successor may have to know more than their pages tell. */
  *rings(): Generator<readonly [domid: number, ring: Ring]> {
    for (const [domid, { ring }] of this.#byDomid) yield [domid, ring];
  }

  /**
   * Resolves when no batch is under way and every page knows which of its requests have been run: a successor begins behind them. No request
   * is run and no further batch sent until `thaw()` or `closeAll()`.
   */
  freeze(): Promise<void> {
    this.#frozen = true;
    this.#schedule();
    return new Promise((resolve) => {
      this.#idle = resolve;
      this.#tellIdle();
    });
  }

  thaw(): void {
    this.#frozen = false;
    this.#schedule();
  }

  /** Gives all rings up, as they are: whoever connects them again goes on. */
  async closeAll(): Promise<void> {
    const sessions = [...this.#byDomid.values()];
    for (const session of sessions) {
      session.state = 'stopped';
      session.ring.connection.wake = () => undefined;
    }
    this.#byDomid.clear();
    this.#byPort.clear();
    this.#line.length = 0;
    this.#slow.clear();
    await Promise.all(sessions.map(({ ring }) => this.#privcmd.unbind(ring.port).catch(() => undefined)));
  }

  release(domid: number): void {
    const session = this.#byDomid.get(domid);
    if (!session) return;
    session.state = 'stopped';
    session.ring.connection.wake = () => undefined;
    this.#byDomid.delete(domid);
    this.#byPort.delete(session.ring.port);
    this.#privcmd.unbind(session.ring.port).catch((error: unknown) => {
      this.#log.debug({ domid, err: error }, 'event channel was gone');
    });
  }

  #open(
    connection: StoreConnection,
    page: RemotePage,
    port: EvtchnPort,
    state: RingState & { readonly rspCons: number },
  ): Session {
    const core = this.#core;
    if (!core) throw new Error('RingServer.attach was not called');
    const ring = new Ring({ connection, page, port }, state, {
      mayRun: () => !this.#frozen && core.mayRead(connection),
      handle: (packet, end) => {
        this.#handle(core, connection, packet, end);
      },
    });
    const session: Session = { ring, queued: false, inFlight: false, delayed: false, state: 'open', recorded: false };
    connection.wake = () => {
      this.#enqueue(session);
    };
    this.#byDomid.set(connection.domid, session);
    this.#byPort.set(port, session);
    // A link that ends meanwhile takes the daemon with it; without the reads events are served too.
    this.#privcmd.readOnEvent(port, ring.eventReads).catch((error: unknown) => {
      this.#log.debug({ domid: connection.domid, err: error }, 'events come without their ring');
    });
    return session;
  }

  #handle(core: XenstoreCore, connection: StoreConnection, packet: XsPacket, end: number): void {
    const { records } = this.#modules;
    const { notedBytes } = records;
    const { size } = connection.watches;
    core.handle(connection, packet);
    if (WATCH_OPERATIONS.has(packet.op) && connection.watches.size !== size) records.watchesChanged(connection);
    if (records.notedBytes !== notedBytes) records.requestDone(connection.domid, end);
  }

  /** With what came with it the requests are run at once; without, or when a batch has the ring, a batch reads them. */
  #event(session: Session, reads?: readonly MemoryResult[]): void {
    const { ring } = session;
    if (!reads || session.inFlight || session.state !== 'open') {
      ring.event();
      this.#enqueue(session);
      return;
    }
    this.#outcome(session, ring.eventWith(reads));
    this.#goOn(session);
  }

  /** To the line, if there is something to do. */
  #goOn(session: Session): void {
    if (session.state !== 'open') return;
    if (session.ring.due) this.#enqueue(session);
    else this.#waitFor(session);
  }

  #enqueue(session: Session): void {
    if (session.queued || session.state !== 'open') return;
    session.queued = true;
    // What comes while a batch has its ring is looked at after it.
    if (!session.inFlight) this.#line.push(session);
    this.#schedule();
  }

  /** A microtask later, so that what one request of another client causes leaves in one batch. */
  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      while (this.#maySend() && this.#line.length > 0 && this.#inFlight < BATCHES_IN_FLIGHT) this.#send();
    });
  }

  #send(): void {
    const batch: InBatch[] = [];
    const ops: MemoryOp[] = [];
    const line = this.#line.splice(0, RINGS_PER_BATCH);
    for (const session of line) {
      session.queued = false;
      if (session.state !== 'open') continue;
      if (!session.ring.due) {
        // The write limit has it wait once more.
        this.#waitFor(session);
        continue;
      }
      session.inFlight = true;
      const from = ops.length;
      session.ring.collect(ops);
      this.#record(session);
      batch.push({ session, from, to: ops.length });
    }
    if (ops.length === 0) return;
    this.#inFlight++;
    this.#modules.beforeSend();
    this.#privcmd.memory(ops).then(
      (results) => {
        this.#inFlight--;
        this.#settle(batch, results);
        this.#tellIdle();
      },
      (error: unknown) => {
        // The link to the hypervisor is gone; the daemon ends with it.
        this.#log.warn({ err: error }, 'rings are not served any more');
      },
    );
  }

  #maySend(): boolean {
    return !this.#frozen || this.#someUntold();
  }

  #someUntold(): boolean {
    for (const { state, ring } of this.#byDomid.values()) if (state === 'open' && ring.untold) return true;
    return false;
  }

  #tellIdle(): void {
    if (this.#frozen && this.#inFlight === 0 && !this.#someUntold()) this.#idle();
  }

  #settle(batch: readonly InBatch[], results: readonly MemoryResult[]): void {
    for (const { session, from, to } of batch) {
      session.inFlight = false;
      if (session.state !== 'open') continue;
      this.#outcome(session, session.ring.settle(results.slice(from, to)));
      if (session.queued) this.#line.push(session);
      else this.#goOn(session);
    }
    this.#schedule();
  }

  #record(session: Session): void {
    const { ring, recorded } = session;
    if (!ring.hasState && !recorded) return;
    session.recorded = ring.hasState;
    this.#modules.records.ringState(ring.connection.domid, ring.state);
  }

  /** What time alone brings on: requests held back by the write limit, events that a guest does not take. */
  #waitFor(session: Session): void {
    const { ring } = session;
    const delayMs = ring.holdsBack && !session.delayed ? this.#core?.readDelayMs(ring.connection) : undefined;
    if (delayMs !== undefined) {
      session.delayed = true;
      setTimeout(() => {
        session.delayed = false;
        this.#enqueue(session);
      }, delayMs).unref();
    }
    if (!ring.connection.output.timed) return;
    this.#slow.add(session);
    this.#expiry ??= setInterval(() => {
      for (const each of this.#slow) {
        if (this.#core?.expireEvents(each.ring.connection) === undefined) this.#slow.delete(each);
      }
      if (this.#slow.size > 0) return;
      clearInterval(this.#expiry);
      this.#expiry = undefined;
    }, EXPIRY_PERIOD_MS).unref();
  }

  #outcome(session: Session, outcome: RingOutcome): void {
    if (outcome === 'ok') return;
    session.state = 'ignored';
    const { domid } = session.ring.connection;
    // A page that is gone: the domain is on its way out; @releaseDomain will follow.
    if (outcome === 'gone') this.#log.debug({ domid }, 'ring page is gone');
    else this.#ignore(session.ring, outcome);
  }

  /** The guest broke the rules: its session ends until it is introduced again; others do not notice. */
  #ignore({ connection, page }: Ring, error: XenstoreRingErrorCode): void {
    const { domid } = connection;
    this.#log.warn({ domid, error }, 'domain broke the ring protocol, ignored');
    this.#core?.ignore(connection);
    this.#modules.records.watchesChanged(connection);
    this.#privcmd
      .memory([{ kind: 'write', page, offset: offsets.error, data: u32Bytes(error) }])
      .catch(() => undefined);
  }

  /** The toolstack grants the page to Domain-0 under a reserved reference; older ones rely on its frame number alone. */
  async #findPage(domid: number, mfn: bigint): Promise<RemotePage> {
    const candidates: RemotePage[] = [
      { space: 'grant', domid: domidOf(domid), gref: grantRef(GNTTAB_RESERVED_XENSTORE) },
      { space: 'foreign', domid: domidOf(domid), gfn: Number(mfn) },
    ];
    const results = await this.#privcmd.memory(
      candidates.map((page): MemoryOp => ({ kind: 'read', page, offset: offsets.req_cons, length: 4 })),
    );
    const found = candidates.find((_, i) => results[i]?.status === 0);
    if (found) return found;
    throw invalid(`cannot reach the xenstore ring of domain ${domid} (mfn ${mfn})`);
  }
}

const invalid = (message: string): Error => Object.assign(new Error(message), { code: 'EINVAL' });
