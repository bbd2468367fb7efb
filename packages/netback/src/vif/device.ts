/**
 * One vif from its appearing in xenstore to its removal: the backend's half of the handshake (xen/include/public/io/xenbus.h; Linux's
 * xen-netback, xenbus.c) and of the hotplug script's, a port of the switch, and a connection while the frontend has one.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { systemClock, domid as domidOf } from '@xenhost/base';
import type { Clock, Domid } from '@xenhost/base';
import type { Logger } from '@xenhost/daemon-kit';
import type { PrivcmdPort } from '@xenhost/privcmd';
import { XenbusState } from '@xenhost/xen-abi';
import type { BackendDevice, XenstoreClient } from '@xenhost/xenstore-client';
import type { FrameReceiver, GsoType, PortOffloads, SwitchPort, Switches } from '../switch/frame.ts';
import { TokenBucket } from '../switch/storm.ts';
import { HotplugError, vifConfig } from './backend-keys.ts';
import type { VifConfig } from './backend-keys.ts';
import type { Batches } from './batches.ts';
import { Connection } from './connection.ts';
import { newCounters } from './counters.ts';
import type { QueueBudget, VifCounters } from './counters.ts';
import { Credit, parseRate } from './credit.ts';
import type { EventPorts } from './event-ports.ts';
import { FaultLog } from './fault-log.ts';
import { FrontendError, readFrontend, sameRings } from './frontend-keys.ts';
import type { FrontendKeys } from './frontend-keys.ts';
import { LOOKS_AT_ONCE, LOOKS_PER_SECOND } from './limits.ts';
import { MulticastFilter } from './multicast.ts';
import type { PagedFrame, PagedReceivers } from './paged-frame.ts';
import { systemTimers } from './timers.ts';
import type { Timers } from './timers.ts';
import { BackendDirectory, FEATURES } from './xenbus.ts';

const NS_PER_MS = 1_000_000n;

export interface VifModules {
  readonly privcmd: PrivcmdPort;
  readonly xenstore: XenstoreClient;
  readonly switches: Switches;
  readonly log: Logger;
  readonly ports: EventPorts;
  readonly batches: Batches;
  readonly budget: QueueBudget;
  readonly paged: PagedReceivers;
  /** The toolstack has removed the vif; nothing of it is left. */
  readonly onGone: (vif: VifDevice) => void;
  readonly clock?: Clock;
  readonly timers?: Timers;
}

/** What the port's other side takes, as the frontend that is connected now has it. */
class Offloads implements PortOffloads {
  checksumPartial = false;
  gso: ReadonlySet<GsoType> = new Set();

  follow(frontend: FrontendKeys): void {
    this.checksumPartial = frontend.checksumV4 && frontend.checksumV6;
    const gso = new Set<GsoType>();
    if (frontend.gsoTcpv4) gso.add('tcpv4');
    if (frontend.gsoTcpv6) gso.add('tcpv6');
    this.gso = gso;
  }
}

export class VifDevice {
  readonly domid: Domid;
  readonly deviceId: number;
  readonly counters: VifCounters = newCounters();
  readonly #directory: BackendDirectory;
  readonly #m: VifModules & { readonly clock: Clock; readonly timers: Timers };
  readonly #offloads = new Offloads();
  readonly #credit: Credit;
  readonly #multicast = new MulticastFilter();
  readonly #watching = new AbortController();
  readonly #faults: FaultLog;
  /** A guest that writes its state without end is followed seldom. */
  readonly #looks: TokenBucket;
  #config: VifConfig | undefined;
  #frontendPath = '';
  #port: SwitchPort | undefined;
  #connection: Connection | undefined;
  /** Why the vif does nothing until its frontend or the toolstack begins anew. */
  #disabled: string | undefined;
  #following = false;
  #stopped = false;
  /** An earlier daemon had it connected: its event channels may still be on their way back. */
  #resumed = false;
  #work: Promise<void> | undefined;
  #dirty = false;

  constructor(device: BackendDevice, modules: VifModules) {
    const { clock = systemClock, timers = systemTimers } = modules;
    this.domid = domidOf(device.frontendDomid);
    this.deviceId = device.deviceId;
    const log = modules.log.child({ domid: device.frontendDomid, vif: device.deviceId });
    this.#m = { ...modules, clock, timers, log };
    this.#directory = new BackendDirectory(device.path, modules.xenstore);
    this.#credit = new Credit(undefined, clock);
    this.#faults = new FaultLog(log, clock);
    this.#looks = new TokenBucket(LOOKS_PER_SECOND, LOOKS_AT_ONCE, Number(clock.monotonicNs() / NS_PER_MS));
  }

  /** vif1.0, as Linux would call it whatever its name on the bridge. */
  get id(): string {
    return `vif${this.domid}.${this.deviceId}`;
  }

  get name(): string {
    return this.#config?.name ?? this.id;
  }

  get bridge(): string | undefined {
    return this.#config?.bridge;
  }

  get connected(): boolean {
    return this.#connection !== undefined;
  }

  /** Something in xenstore may have changed. Resolves when it has been answered. */
  async changed(): Promise<void> {
    this.#dirty = true;
    this.#work ??= this.#steps().finally(() => {
      this.#work = undefined;
    });
    await this.#work;
  }

  /** The daemon ends: guests keep their rings for the next one. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#watching.abort();
    await this.#work;
    await this.#disconnect();
    this.#port?.close();
    this.#port = undefined;
  }

  async #steps(): Promise<void> {
    if (!this.#following) {
      this.#following = true;
      // Of a directory that goes with those above it, only those who watch its nodes hear.
      this.#watch(`${this.#directory.path}/state`);
    }
    while (this.#dirty && !this.#stopped) {
      try {
        while (!this.#looks.take(Number(this.#m.clock.monotonicNs() / NS_PER_MS))) {
          await delay(1000 / LOOKS_PER_SECOND, undefined, { signal: this.#watching.signal });
        }
        this.#dirty = false;
        await this.#step();
      } catch (error) {
        if (!this.#isStopped()) this.#m.log.error({ err: error }, 'vif: cannot follow xenstore');
      }
    }
  }

  #isStopped(): boolean {
    return this.#stopped;
  }

  async #step(): Promise<void> {
    const keys = await this.#directory.read();
    if (!keys.has('state')) {
      await this.#remove();
      return;
    }
    if (keys.get('online') === '0') {
      await this.#detach();
      await this.#directory.closed();
      return;
    }
    if (!this.#config && !(await this.#attach(keys))) return;
    this.#credit.setRate(parseRate(keys.get('rate')));
    const state = Number((await this.#m.xenstore.tryRead(`${this.#frontendPath}/state`)) ?? XenbusState.Unknown);
    await this.#followFrontend(state);
  }

  async #followFrontend(state: number): Promise<void> {
    switch (state) {
      case XenbusState.Initialising:
        await this.#disconnect();
        await this.#directory.state(XenbusState.InitWait);
        return;
      case XenbusState.InitWait:
      case XenbusState.Initialised:
        if (!this.#connection) await this.#directory.state(XenbusState.InitWait);
        return;
      case XenbusState.Connected:
        await this.#connect();
        return;
      case XenbusState.Closing:
        await this.#disconnect();
        await this.#directory.state(XenbusState.Closing);
        return;
      default:
        await this.#disconnect();
        await this.#directory.state(XenbusState.Closed);
    }
  }

  /** What the hotplug script does: a port on the bridge. False when it cannot be; the toolstack has been told. */
  async #attach(keys: ReadonlyMap<string, string>): Promise<boolean> {
    const { switches, log } = this.#m;
    if (keys.get('hotplug-status') === 'error') return false;
    try {
      const config = vifConfig(keys, { frontendDomid: this.domid, deviceId: this.deviceId });
      const frontend = keys.get('frontend') ?? '';
      if (!frontend.startsWith(`/local/domain/${this.domid}/`)) {
        throw new HotplugError(`frontend ${frontend} is not of domain ${this.domid}`);
      }
      const port = switches.attach({ ...config, accepts: this.#offloads });
      const receiver: FrameReceiver = (frame) => {
        if (this.#connection) return this.#connection.receive(frame);
        this.counters.txDropped += 1;
        return false;
      };
      this.#m.paged.know(receiver, (frame) => this.#connection?.receivePaged(frame) ?? false);
      port.setReceiver(receiver);
      this.#port = port;
      this.#resumed = keys.get('state') === String(XenbusState.Connected);
      this.#config = config;
      this.#frontendPath = frontend;
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      log.warn({ reason }, 'vif refused');
      // The text first: whoever waits for the status reads it next.
      await this.#directory.write({ 'hotplug-error': reason, 'hotplug-status': 'error' });
      return false;
    }
    for (const key of ['state', 'request-multicast-control']) this.#watch(`${this.#frontendPath}/${key}`);
    const { name, bridge, mac } = this.#config;
    log.info({ name, bridge, mac }, 'vif attached');
    await this.#directory.write({ ...FEATURES, 'hotplug-status': 'connected' });
    return true;
  }

  async #connect(): Promise<void> {
    if (this.#disabled !== undefined) return;
    const { xenstore, privcmd, ports, batches, budget, timers, log } = this.#m;
    try {
      const frontend = await readFrontend(xenstore, this.#frontendPath);
      this.#multicast.enabled = frontend.multicastControl;
      if (this.#connection && sameRings(this.#connection.frontend, frontend)) {
        await this.#directory.state(XenbusState.Connected);
        return;
      }
      await this.#connection?.close();
      this.#connection = undefined;
      this.#offloads.follow(frontend);
      this.#connection = await Connection.open(
        { domid: this.domid, frontend, patient: this.#resumed },
        {
          privcmd,
          ports,
          batches,
          budget,
          timers,
          credit: this.#credit,
          multicast: this.#multicast,
          counters: this.counters,
          onFrame: (frame) => this.#port?.send(frame),
          onPaged: (frame) => this.#sendPaged(frame),
          onFault: (reason) => {
            this.#faults.add(reason);
          },
          onFatal: (reason, error) => {
            this.#disable(reason, error);
          },
        },
      );
      this.#resumed = false;
      log.info({ queues: frontend.queues.length }, 'vif connected');
      await this.#directory.state(XenbusState.Connected);
    } catch (error) {
      if (!(error instanceof FrontendError)) throw error;
      this.#disabled = error.message;
      log.warn({ err: error }, 'vif cannot be connected');
      await this.#directory.error(error.message);
      await this.#directory.state(XenbusState.Closing);
    }
  }

  #sendPaged(frame: PagedFrame): boolean {
    const { head, length, checksum, gso } = frame;
    return (
      this.#port?.direct?.({ bytes: head, length, checksum, ...(gso ? { gso } : {}) }, (to) =>
        this.#m.paged.hand(to, frame),
      ) ?? false
    );
  }

  /** After what only a broken or hostile frontend does: this vif stops, others go on (xenvif_fatal_tx_err). */
  #disable(reason: string, error: unknown): void {
    if (this.#disabled !== undefined) return;
    this.#disabled = reason;
    this.#m.log.error({ reason, ...(error === undefined ? {} : { err: error }) }, 'vif disabled');
    const connection = this.#connection;
    this.#connection = undefined;
    Promise.all([connection?.close(), this.#directory.error(`vif disabled: ${reason}`)]).catch((failure: unknown) => {
      if (!this.#stopped) this.#m.log.warn({ err: failure }, 'vif: cannot tell why it is disabled');
    });
  }

  async #disconnect(): Promise<void> {
    const connection = this.#connection;
    this.#connection = undefined;
    if (this.#disabled !== undefined) {
      this.#disabled = undefined;
      if (!this.#stopped) await this.#directory.clearError();
    }
    if (!connection) return;
    await connection.close();
    this.#multicast.clear();
    this.#m.log.info('vif disconnected');
  }

  async #detach(): Promise<void> {
    await this.#disconnect();
    this.#port?.close();
    this.#port = undefined;
  }

  async #remove(): Promise<void> {
    await this.#detach();
    this.#watching.abort();
    this.#stopped = true;
    this.#m.onGone(this);
  }

  #watch(path: string): void {
    const { xenstore, log } = this.#m;
    const { signal } = this.#watching;
    const follow = async (): Promise<void> => {
      const watch = xenstore.watch(path, { signal });
      while (!(await watch.next()).done) await this.changed();
    };
    follow().catch((error: unknown) => {
      if (!signal.aborted) log.error({ err: error, path }, 'vif: watch ended');
    });
  }
}
