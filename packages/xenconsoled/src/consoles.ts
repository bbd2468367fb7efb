/**
 * Which domains have a console: told by xenstore (`@introduceDomain`, `@releaseDomain`, each domain's `console` directory),
 * as the original daemon (tools/console/daemon) does it.
 */
import { join } from 'node:path';
import { domid as domidOf, evtchnPort, grantRef } from '@xenhost/base';
import type { EvtchnPort } from '@xenhost/base';
import type { Logger, UnixListener } from '@xenhost/daemon-kit';
import type { MemoryOp, PrivcmdPort, RemotePage } from '@xenhost/privcmd';
import { GNTTAB_RESERVED_CONSOLE, XenconsInterface } from '@xenhost/xen-abi';
import type { XenstoreClient } from '@xenhost/xenstore-client';
import { serveConsole } from './attach.ts';
import { ConsoleHub } from './hub.ts';
import { LOG_FILE_BYTES } from './limits.ts';
import { LogFile, guestLogName } from './log-file.ts';
import { ConsoleRing } from './ring.ts';

export interface ConsolesOptions {
  /** Folder of the attach sockets. */
  readonly socketDirectory: string;
  /** Folder of the guests' logs; undefined: none are written. */
  readonly logDirectory: string | undefined;
}

export interface ConsolesModules {
  readonly privcmd: PrivcmdPort;
  readonly xenstore: XenstoreClient;
  readonly log: Logger;
}

interface GuestConsole {
  readonly hub: ConsoleHub;
  readonly ring: ConsoleRing;
  readonly listener: UnixListener;
  readonly ringRef: string;
  readonly remotePort: string;
}

interface Guest {
  readonly domid: number;
  readonly watching: AbortController;
  console: GuestConsole | undefined;
  /** Work on this guest, one after the other. */
  work: Promise<void>;
}

export class Consoles {
  readonly #options: ConsolesOptions;
  readonly #modules: ConsolesModules;
  readonly #guests = new Map<number, Guest>();
  readonly #rings = new Map<EvtchnPort, ConsoleRing>();
  readonly #stopping = new AbortController();
  #scan: Promise<void> = Promise.resolve();

  constructor(options: ConsolesOptions, modules: ConsolesModules) {
    this.#options = options;
    this.#modules = modules;
    modules.privcmd.onEvent((port) => {
      this.#rings.get(port)?.event();
    });
  }

  /** Begins to follow domains; resolves when those that exist are known. */
  async start(): Promise<void> {
    for (const special of ['@introduceDomain', '@releaseDomain']) {
      const watch = this.#modules.xenstore.watch(special, { signal: this.#stopping.signal });
      await watch.registered;
      void this.#follow(watch, () => {
        this.#rescan();
      });
    }
    this.#rescan();
    await this.#scan;
  }

  find(domid: number): ConsoleHub | undefined {
    return this.#guests.get(domid)?.console?.hub;
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await Promise.all([...this.#guests.values()].map((guest) => this.#forget(guest)));
  }

  async #follow(events: AsyncIterable<unknown>, onEvent: () => void): Promise<void> {
    try {
      const iterator = events[Symbol.asyncIterator]();
      while (!(await iterator.next()).done) onEvent();
    } catch (error) {
      if (!this.#stopping.signal.aborted) this.#modules.log.warn({ err: error }, 'watch ended');
    }
  }

  #rescan(): void {
    this.#scan = this.#scan
      .then(() => this.#rescanNow())
      .catch((error: unknown) => {
        if (!this.#stopping.signal.aborted) this.#modules.log.error({ err: error }, 'cannot list domains');
      });
  }

  async #rescanNow(): Promise<void> {
    const { xenstore } = this.#modules;
    // A domain may have shut down: what it printed last must not wait for an event, nor for the answers below.
    for (const guest of this.#guests.values()) guest.console?.ring.event();
    const known = [...this.#guests.values()];
    const here = await Promise.all(known.map(({ domid }) => xenstore.isDomainIntroduced(domid)));
    await Promise.all(known.filter((_, i) => here[i] !== true).map((guest) => this.#forget(guest)));
    const domids = (await xenstore.tryDirectory('/local/domain'))
      .map(Number)
      .filter((domid) => Number.isInteger(domid) && domid !== 0 && !this.#guests.has(domid));
    const introduced = await Promise.all(domids.map((domid) => xenstore.isDomainIntroduced(domid)));
    for (const [i, domid] of domids.entries()) if (introduced[i] === true) this.#know(domid);
  }

  #know(domid: number): void {
    const guest: Guest = { domid, watching: new AbortController(), console: undefined, work: Promise.resolve() };
    this.#guests.set(domid, guest);
    const watch = this.#modules.xenstore.watch(`/local/domain/${domid}/console`, { signal: guest.watching.signal });
    void this.#follow(watch, () => {
      guest.work = guest.work
        .then(() => this.#connect(guest))
        .catch((error: unknown) => {
          if (!this.#stopping.signal.aborted)
            this.#modules.log.warn({ domid, err: error }, 'cannot connect the console');
        });
    });
  }

  /** Connects the console once its ring and event channel are in xenstore; again when they change. */
  async #connect(guest: Guest): Promise<void> {
    const { xenstore, privcmd, log } = this.#modules;
    const { domid } = guest;
    if (guest.watching.signal.aborted) return;
    const base = `/local/domain/${domid}`;
    const [ringRef, port, type, name, limit] = await Promise.all(
      ['console/ring-ref', 'console/port', 'console/type', 'name', 'console/limit'].map((key) =>
        xenstore.tryRead(`${base}/${key}`),
      ),
    );
    if (ringRef === undefined || port === undefined || (type !== undefined && type !== 'xenconsoled')) return;
    if (guest.console?.ringRef === ringRef && guest.console.remotePort === port) return;
    if (guest.console) await this.#disconnect(guest);
    const page = await this.#findPage(domid, Number(ringRef));
    const local = await privcmd.bindInterdomain(domidOf(domid), evtchnPort(Number(port)));
    const hub = new ConsoleHub(
      { historyBytes: historyOf(limit) },
      {
        logFile: this.#openLog(name ?? `Domain-${domid}`),
        log: log.child({ domid }),
        input: (bytes) => ring.input(bytes),
      },
    );
    const ring: ConsoleRing = new ConsoleRing(
      { domid: domidOf(domid), page, port: local },
      {
        privcmd,
        log,
        onOutput: (bytes) => {
          hub.output(bytes);
        },
        onInputRoom: () => {
          hub.inputRoom();
        },
      },
    );
    this.#rings.set(local, ring);
    const path = join(this.#options.socketDirectory, `${domid}.sock`);
    const listener = await serveConsole(hub, path);
    guest.console = { hub, ring, listener, ringRef, remotePort: port };
    // Output from before now is in the ring, and its event may have gone by.
    ring.event();
    await this.#tellTty(base, path);
    log.info({ domid, name, path }, 'console connected');
  }

  /** Tells where to attach, unless the domain's nodes have been removed meanwhile: they must not come back. */
  #tellTty(base: string, path: string): Promise<void> {
    return this.#modules.xenstore.transaction(async (t) => {
      if (await t.exists(`${base}/console/ring-ref`)) await t.write(`${base}/console/tty`, path);
    });
  }

  #openLog(name: string): LogFile | undefined {
    const { logDirectory } = this.#options;
    if (logDirectory === undefined) return undefined;
    try {
      return new LogFile(join(logDirectory, guestLogName(name)), LOG_FILE_BYTES);
    } catch (error) {
      this.#modules.log.error({ name, err: error }, 'no console log');
      return undefined;
    }
  }

  /** The toolstack grants the page to Domain-0 under a reserved reference; older ones rely on its frame number alone. */
  async #findPage(domid: number, ringRef: number): Promise<RemotePage> {
    const candidates: RemotePage[] = [
      { space: 'grant', domid: domidOf(domid), gref: grantRef(GNTTAB_RESERVED_CONSOLE) },
      { space: 'foreign', domid: domidOf(domid), gfn: ringRef },
    ];
    const results = await this.#modules.privcmd.memory(
      candidates.map((page): MemoryOp => ({ kind: 'read', page, offset: XenconsInterface.offsets.in_cons, length: 4 })),
    );
    const found = candidates.find((_, i) => results[i]?.status === 0);
    if (!found) throw new Error(`cannot reach the console ring of domain ${domid} (frame ${ringRef})`);
    return found;
  }

  async #forget(guest: Guest): Promise<void> {
    guest.watching.abort();
    this.#guests.delete(guest.domid);
    await guest.work;
    await this.#disconnect(guest);
  }

  /** Ends a console: what is still in its ring reaches the log and the readers first. */
  async #disconnect(guest: Guest): Promise<void> {
    const { console } = guest;
    if (!console) return;
    guest.console = undefined;
    await console.ring.drain();
    console.ring.stop();
    this.#rings.delete(console.ring.port);
    console.hub.close();
    await Promise.all([
      closeGently(console.listener),
      this.#modules.privcmd.unbind(console.ring.port).catch(() => undefined),
    ]);
    this.#modules.log.info({ domid: guest.domid }, 'console ended');
  }
}

/** Stops listening, but lets readers take what is queued for them. */
function closeGently(listener: UnixListener): Promise<void> {
  listener.server.close();
  return Promise.resolve();
}

/** xend's console-limit, in bytes; without it, or with 0, there is no limit but ours. */
const historyOf = (limit: string | undefined): number => Number(/^\d{1,10}$/.exec(limit ?? '')?.[0] ?? 0) || Infinity;
