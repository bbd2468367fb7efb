/** A script for the core: who sends what, and what comes back. Used by tests only. */
import { XsOp, XsPacketParser, xsOpName } from '@xenhost/xs-wire';
import type { XsOpName } from '@xenhost/xs-wire';
import { FakeClock } from '@xenhost/base';
import type { StoreConnection } from '../core/connection.ts';
import { XenstoreCore } from '../core/core.ts';
import type { ConflictPolicy, ControlPort, TracePort } from '../core/core.ts';
import type { StoreChange } from '../core/journal.ts';
import type { Quotas } from '../core/limits.ts';
import type { CoreState } from '../core/state.ts';

/** Client, operation, payload with `|` for NUL, expected replies and events in order (`|` for NUL too). */
export type Step = readonly [who: string, op: XsOpName | number, payload: string, ...expected: string[]];

export interface SceneOptions {
  readonly conflictPolicy?: ConflictPolicy;
  readonly control?: ControlPort;
  readonly trace?: TracePort;
  /** Domains that the hypervisor knows; without it, all. */
  readonly existing?: ReadonlySet<number>;
}

/** Clients are `0` (any further `0x` is another tool), and `N` for domain N; `N:T` sends in transaction T. */
export class Scene {
  readonly core: XenstoreCore;
  readonly clock = new FakeClock();
  readonly logged: string[] = [];
  /** What has been told to the journal, one entry a call. */
  readonly journal: (readonly StoreChange[])[] = [];
  /** Rings that were given up. */
  readonly released: number[] = [];
  /** What the next introductions of a ring fail with. */
  introduceError: Error | undefined;
  /** What introductions of a ring wait for. */
  introduceAfter: Promise<void> = Promise.resolve();
  readonly #clients = new Map<string, { readonly connection: StoreConnection; readonly parser: XsPacketParser }>();
  #reqId = 1;

  constructor(quotas: Partial<Quotas> = {}, options: SceneOptions = {}) {
    this.core = new XenstoreCore(
      { quotas, ...(options.conflictPolicy ? { conflictPolicy: options.conflictPolicy } : {}) },
      {
        gate: {
          introduce: () => (this.introduceError ? Promise.reject(this.introduceError) : this.introduceAfter),
          release: (domid) => this.released.push(domid),
        },
        log: (message) => this.logged.push(message),
        clock: this.clock,
        journal: { committed: (changes) => this.journal.push(changes) },
        ...(options.control ? { control: options.control } : {}),
        ...(options.trace ? { trace: options.trace } : {}),
        ...(options.existing ? { existing: () => Promise.resolve(options.existing ?? new Set()) } : {}),
      },
    );
  }

  /** A new core that takes over from this one; clients keep their names and what they have not read. */
  takeOver(state: CoreState): Scene {
    const next = new Scene();
    const restored = next.core.restoreState(state);
    for (const [name, { connection, parser }] of this.#clients) {
      const taken = restored.get(connection.id);
      if (taken) next.#clients.set(name, { connection: taken, parser });
    }
    next.#reqId = this.#reqId;
    return next;
  }

  connection(who: string): StoreConnection {
    return this.#client(who).connection;
  }

  /** Introduces a domain, so that client `N` is its ring. */
  async introduce(domid: number): Promise<void> {
    await this.core.introduce(domid, '1', 1);
    const domain = this.core.domains.get(domid);
    if (domain) this.#clients.set(String(domid), { connection: domain.connection, parser: new XsPacketParser() });
  }

  send(who: string, op: XsOpName | number, payload: string): void {
    const [client = '', tx = '0'] = who.split(':');
    this.core.handle(this.#client(client).connection, {
      op: typeof op === 'number' ? op : XsOp[op],
      reqId: this.#reqId++,
      txId: Number(tx),
      payload: Buffer.from(payload.replaceAll('|', '\0'), 'latin1'),
    });
  }

  /** What has been queued for a client since the last call: payloads, errors as their name, events as `! path|token|`. */
  received(who: string): string[] {
    const { connection, parser } = this.#client(who.split(':')[0] ?? '');
    return parser.push(connection.output.take()).map((packet) => {
      const text = packet.payload.toString('latin1').replaceAll('\0', '|');
      if (packet.op === XsOp.WATCH_EVENT) return `! ${text}`;
      return packet.op === XsOp.ERROR ? text.replace(/\|$/, '') : text;
    });
  }

  /** Runs steps; each step's client must get exactly what is expected. */
  run(steps: readonly Step[]): void {
    for (const [who, op, payload, ...expected] of steps) {
      this.send(who, op, payload);
      const label = `${who} ${typeof op === 'number' ? xsOpName(op) : op} ${payload}`;
      expect([label, ...this.received(who)]).toEqual([label, ...expected]);
    }
  }

  #client(who: string): { readonly connection: StoreConnection; readonly parser: XsPacketParser } {
    let client = this.#clients.get(who);
    if (!client) {
      const domid = who.startsWith('0') ? 0 : Number(who);
      client = { connection: this.core.connect(domid), parser: new XsPacketParser() };
      this.#clients.set(who, client);
    }
    return client;
  }
}

/**
 * Domains 5 and 6, introduced, each with a home of its own, and a node of Domain-0's that all may read and write: what random
 * requests (`requests.ts`) are about.
 */
export async function sharedScene(
  quotas: Partial<Quotas> = {},
  conflictPolicy: ConflictPolicy = 'eagain',
): Promise<Scene> {
  const s = new Scene(quotas, { conflictPolicy });
  for (const domid of [5, 6]) {
    s.run([
      ['0', 'MKDIR', `/local/domain/${domid}|`, 'OK|'],
      ['0', 'SET_PERMS', `/local/domain/${domid}|n${domid}|`, 'OK|'],
    ]);
    await s.introduce(domid);
  }
  s.run([
    ['0', 'WRITE', '/shared|s', 'OK|'],
    ['0', 'SET_PERMS', '/shared|b0|', 'OK|'],
  ]);
  return s;
}
