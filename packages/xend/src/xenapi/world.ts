/** What the handlers of all classes share: the domains, the stored records, who is logged in, what is told to whom. */
import { createHash, randomUUID } from 'node:crypto';
import type { XmlRpcValue } from '@xenhost/xmlrpc-codec';
import type { DomainManager } from '../domain/manager.ts';
import type { Vm } from '../domain/vm.ts';
import type { XenApiOptions, XenApiPorts } from './api.ts';
import { internalError, unsupported } from './errors.ts';
import { EventHub, type EventOperation } from './events.ts';
import { SESSION_IDLE_S } from './limits.ts';
import { Observer } from './observer.ts';
import { loadNetworks } from './networks.ts';
import { loadPbds } from './pbds.ts';
import { Samples } from './samples.ts';
import { Sessions } from './sessions.ts';
import { StateStore, textIn, type JsonRecord } from './state.ts';
import { Storage } from './storage/storage.ts';
import { Tasks } from './tasks.ts';
import type { ApiClass, Row } from './table.ts';
import type { Answer } from './values.ts';

const NS_PER_MS = 1_000_000n;

export class World {
  readonly options: XenApiOptions;
  readonly ports: XenApiPorts;
  readonly classes: ReadonlyMap<string, ApiClass>;
  readonly rows: ReadonlyMap<string, Row>;
  readonly state: StateStore;
  readonly sessions: Sessions;
  readonly tasks: Tasks;
  readonly events: EventHub;
  readonly observer: Observer;
  readonly storage: Storage;
  readonly samples = new Samples();
  /** Whether domains may be started (host.disable, host.enable). */
  enabled = true;
  readonly #abort = new AbortController();
  #hostRef = '';

  constructor(options: XenApiOptions, ports: XenApiPorts, classes: readonly ApiClass[]) {
    this.options = options;
    this.ports = ports;
    this.classes = new Map(classes.map((known) => [known.name, known]));
    this.rows = new Map(classes.flatMap(({ rows }) => rows.map((row) => [row.name, row])));
    const { clock, log } = this.manager.ports;
    this.state = new StateStore(options.stateFolder, log);
    this.events = new EventHub([...this.classes.keys()], () => this.now());
    this.sessions = new Sessions(
      { idleS: options.sessionIdleS ?? SESSION_IDLE_S },
      {
        clock,
        ended: (ref) => {
          this.events.end(ref);
        },
      },
    );
    this.tasks = new Tasks({
      now: () => this.now(),
      told: (operation, ref, field) => {
        this.events.emit(operation, 'task', ref, field);
      },
    });
    this.observer = new Observer(this);
    this.storage = new Storage({ directory: options.storageFolder }, { state: this.state, manager: this.manager });
  }

  get manager(): DomainManager {
    return this.ports.context.manager;
  }

  /** Aborted when xend ends: what may take long gives up. */
  get closing(): AbortSignal {
    return this.#abort.signal;
  }

  now(): Date {
    return new Date(Number(this.manager.ports.clock.wallNs() / NS_PER_MS));
  }

  /** Reads what is stored; makes the host's own record at first. */
  async load(): Promise<void> {
    await this.state.load();
    const [known] = this.state.table('host').keys();
    this.#hostRef = known ?? randomUUID();
    if (known === undefined) {
      await this.state.put('host', this.#hostRef, { name_label: this.manager.ports.host.host });
    }
    await this.storage.load();
    await loadPbds(this);
    await loadNetworks(this);
  }

  newRef(): string {
    return randomUUID();
  }

  /** Changes the host's own record. */
  async changeHost(changes: JsonRecord): Promise<void> {
    await this.state.put('host', this.#hostRef, { ...this.hostRecord, ...changes });
  }

  get hostRef(): string {
    return this.#hostRef;
  }

  get hostRecord(): JsonRecord {
    return this.state.table('host').get(this.#hostRef) ?? {};
  }

  get hostName(): string {
    return textIn(this.hostRecord, 'name_label');
  }

  /** A UUID that belongs to another object for good, the same in each run. */
  derivedRef(kind: string, of: string): string {
    const hex = createHash('sha1').update(`${kind}\0${of}`).digest('hex');
    const variant = ((Number.parseInt(hex.slice(16, 17), 16) & 0x3) | 0x8).toString(16);
    return [
      hex.slice(0, 8),
      hex.slice(8, 12),
      `5${hex.slice(13, 16)}`,
      `${variant}${hex.slice(17, 20)}`,
      hex.slice(20, 32),
    ].join('-');
  }

  /** Runs the legacy method that does the same. Throws what it throws, EUNSUPPORTED when there is none. */
  async legacy(name: string, ...args: readonly XmlRpcValue[]): Promise<XmlRpcValue> {
    const method = this.ports.methods.get(name);
    if (!method) throw unsupported();
    return method.run(this.ports.context, args);
  }

  /** As `legacy`, for a method whose first argument is a domain. */
  async legacyOf(name: string, vm: Vm, ...args: readonly XmlRpcValue[]): Promise<XmlRpcValue> {
    return this.legacy(name, this.#asked(vm), ...args);
  }

  /** A word by which the legacy methods find this very machine: another may have its UUID for a name. */
  #asked(vm: Vm): string {
    const words = [vm.uuid, vm.name, ...(vm.live ? [String(vm.live.domid)] : [])];
    const word = words.find((candidate) => this.manager.find(candidate) === vm);
    if (word === undefined) throw internalError(`Domain ${vm.name} is no more`);
    return word;
  }

  /** Tells listeners. Machines and their devices are told by the observer, which knows them all. */
  tell(operation: EventOperation, className: string, ref: string, field: string): void {
    if (this.observer.watches(className)) this.observer.look({ operation, className, ref, field });
    else {
      this.events.emit(operation, className, ref, field);
      this.observer.look();
    }
  }

  /** The record of an object as listeners get it; undefined when it is gone. */
  async snapshot(className: string, ref: string): Promise<Readonly<Record<string, Answer>> | undefined> {
    try {
      return await this.classes.get(className)?.record(this, ref);
    } catch {
      // It went while it was being read.
      return undefined;
    }
  }

  async close(): Promise<void> {
    this.#abort.abort();
    this.observer.close();
    this.sessions.close();
    await this.tasks.settle();
  }
}
