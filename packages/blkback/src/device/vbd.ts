/**
 * One block device: brings xenstore, the medium and the rings of the frontend into agreement, as Linux's xen-blkback and Xen's hotplug
 * script do together. Works by levels, not edges: whatever changed, all nodes are read again and what is missing is done, so that
 * changes that were missed, a restart of this process included, make no difference.
 */
import { XenError, evtchnPort } from '@xenhost/base';
import type { Domid, EvtchnPort } from '@xenhost/base';
import type { Logger } from '@xenhost/daemon-kit';
import type { PrivcmdPort } from '@xenhost/privcmd';
import { XenbusState } from '@xenhost/xen-abi';
import { isXenstoreError } from '@xenhost/xenstore-client';
import type { XenstoreAccess, XenstoreClient } from '@xenhost/xenstore-client';
import { emptyMedium, openMedium } from '../image/medium.ts';
import type { Medium, MediumModules } from '../image/medium.ts';
import { BIND_PATIENCE_MS, LOOKS_AT_ONCE, LOOKS_PER_SECOND } from '../limits.ts';
import type { Budget, DeviceShare } from '../ring/budget.ts';
import type { BufferPool } from '../ring/buffers.ts';
import { newStatistics } from '../ring/disk.ts';
import { BlkRing } from '../ring/ring.ts';
import { backendFeatures, mediumNodes, nodeName, readBackend, readFrontend } from './nodes.ts';
import type { BackendNodes, DiskKind, FrontendParameters, Nodes } from './nodes.ts';
import { Pace } from './pace.ts';

export interface VbdOptions {
  /** Its directory: `/local/domain/0/backend/vbd/1/51712`. */
  readonly path: string;
  readonly domid: Domid;
  readonly deviceId: number;
  readonly persistentGrants: boolean;
}

export interface VbdModules extends MediumModules {
  readonly privcmd: PrivcmdPort;
  readonly xenstore: XenstoreClient;
  readonly log: Logger;
  readonly budget: Budget;
  readonly pool: BufferPool;
  /** Rings by Domain-0's port, for events. */
  readonly rings: Map<EvtchnPort, BlkRing>;
  /** The device's nodes are gone and it has let go of everything; `again`: something changed meanwhile. */
  readonly onGone: (vbd: Vbd, again: boolean) => void;
}

/** The frontend's side as it stands. */
interface FrontendNodes {
  readonly state: number;
  readonly cdrom: boolean;
  /** The machine's path (`/vm/UUID`), which outlives domain ids. */
  readonly machine: string;
  readonly parameters: FrontendParameters | string | undefined;
}

const ENGAGED: readonly number[] = [XenbusState.Initialised, XenbusState.Connected, XenbusState.Closing];
const CONNECTABLE: readonly number[] = [XenbusState.Initialised, XenbusState.Connected];
const BIND_RETRY_MS = 20;
/** After an error that is nobody's fault here, such as xenstored's restart. */
const RETRY_MS = 1000;
/** A guest that sends bad requests shall not fill the log. */
const REFUSAL_LOG_MS = 10_000;

export class Vbd {
  readonly options: VbdOptions;
  readonly statistics = newStatistics();
  /** Requests answered with an error. */
  refused = 0;
  readonly #modules: VbdModules;
  readonly #log: Logger;
  readonly #share: DeviceShare;
  #medium: Medium | undefined;
  #mediumKey: string | undefined;
  /** What was refused and is not tried again. */
  #refusedKey: string | undefined;
  #kind: DiskKind;
  #rings: readonly BlkRing[] = [];
  #connection: string | undefined;
  /** Of rings that are served no more. */
  #endedBatches = 0;
  #fault: string | undefined;
  #faulted = false;
  #resized = false;
  #following: { readonly path: string; readonly abort: AbortController } | undefined;
  #state: 'here' | 'gone' = 'here';
  #busy = false;
  #again = false;
  #settled: (() => void)[] = [];
  #wake: () => void = () => undefined;
  readonly #pace = new Pace({ atOnce: LOOKS_AT_ONCE, perSecond: LOOKS_PER_SECOND });
  #loggedRefusalAt = -Infinity;

  constructor(options: VbdOptions, modules: VbdModules) {
    this.options = options;
    this.#modules = modules;
    this.#log = modules.log.child({ device: nodeName(options.path) });
    this.#share = modules.budget.share({
      roomAgain: () => {
        for (const ring of this.#rings) ring.roomAgain();
      },
    });
    this.#kind = { cdrom: false, persistentGrants: options.persistentGrants, mayDiscard: true };
  }

  get connected(): boolean {
    return this.#rings.length > 0;
  }

  get inWork(): number {
    return this.#rings.reduce((sum, ring) => sum + ring.inWork, 0);
  }

  /** Round trips to the hypervisor for its rings. */
  get batches(): number {
    return this.#rings.reduce((sum, ring) => sum + ring.batches, this.#endedBatches);
  }

  get bytesInWork(): number {
    return this.#share.usedBytes;
  }

  get sizeBytes(): number {
    return this.#medium?.sizeBytes ?? 0;
  }

  /** Something of it may have changed. */
  poke(): void {
    this.#again = true;
    if (this.#busy || this.#state === 'gone') return;
    this.#busy = true;
    void this.#run();
  }

  /** Looks whether the image has grown. */
  async checkSize(): Promise<void> {
    if (!this.connected || !this.#medium || this.#busy) return;
    const changed = await this.#medium.refreshSize().catch((error: unknown) => {
      this.#log.warn({ err: error }, 'cannot tell the size of the image');
      return false;
    });
    this.#resized ||= changed;
    if (changed) this.poke();
  }

  /** Ends service and leaves xenstore as it is, for a successor: what was taken is answered first unless that takes too long. */
  async stop(patienceMs: number): Promise<void> {
    const late = new Promise<void>((resolve) => {
      setTimeout(resolve, patienceMs).unref();
    });
    await Promise.race([Promise.all(this.#rings.map((ring) => ring.pause())), late]);
    this.#state = 'gone';
    this.#following?.abort.abort();
    this.#wake();
    if (this.#busy) await new Promise<void>((resolve) => this.#settled.push(resolve));
    await this.#letGo();
  }

  async #run(): Promise<void> {
    while (this.#again && this.#state === 'here') {
      await this.#rest(this.#pace.take());
      if (this.#stopping()) break;
      this.#again = false;
      try {
        await this.#reconcile();
      } catch (error) {
        if (isXenstoreError(error, 'ECANCELED')) break;
        this.#log.error({ err: error }, 'cannot serve a change of the device');
        setTimeout(() => {
          this.poke();
        }, RETRY_MS).unref();
      }
    }
    this.#busy = false;
    for (const resolve of this.#settled.splice(0)) resolve();
  }

  #stopping(): boolean {
    return this.#state === 'gone';
  }

  /** Ends early when the device is to be stopped. */
  async #rest(ms: number): Promise<void> {
    if (ms <= 0) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  async #reconcile(): Promise<void> {
    const { xenstore } = this.#modules;
    const { path } = this.options;
    const { back, front } = await xenstore.transaction(async (t) => {
      const nodes = await readBackend(t, path);
      return { back: nodes, front: nodes && (await this.#readFrontend(t, nodes.frontend)) };
    });
    if (!back || !front) {
      await this.#vanish();
      return;
    }
    this.#follow(back.frontend);
    this.#kind = { ...this.#kind, cdrom: front.cdrom, mayDiscard: back.mayDiscard };
    // A device of the same name was taken away and made anew between two looks.
    if (back.hotplugStatus === undefined && back.state === XenbusState.Initialising) await this.#letGo();
    if (!back.online && !ENGAGED.includes(front.state)) await this.#finish(back);
    else if (await this.#hotplug(back, front)) await this.#follows(back, front);
  }

  async #readFrontend(t: XenstoreAccess, frontend: string): Promise<FrontendNodes> {
    const { domid } = this.options;
    const [state, type, machine] = await Promise.all([
      t.tryRead(`${frontend}/state`),
      t.tryRead(`${frontend}/device-type`),
      t.tryRead(`/local/domain/${domid}/vm`),
    ]);
    const code = Number(state ?? XenbusState.Unknown);
    const parameters =
      CONNECTABLE.includes(code) || code === XenbusState.Closing ? await readFrontend(t, frontend) : undefined;
    return { state: code, cdrom: type === 'cdrom', machine: machine ?? `domain ${domid}`, parameters };
  }

  #follow(path: string): void {
    if (this.#following?.path === path) return;
    this.#following?.abort.abort();
    const abort = new AbortController();
    this.#following = { path, abort };
    const watch = this.#modules.xenstore.watch(`${path}/state`, { signal: abort.signal });
    const each = async (): Promise<void> => {
      while (!(await watch.next()).done) this.poke();
    };
    each().catch((error: unknown) => {
      if (!abort.signal.aborted) this.#log.warn({ err: error }, 'the frontend is no longer followed');
    });
  }

  /* the medium: what the hotplug script does */

  /** False when there is nothing to serve. */
  async #hotplug(back: BackendNodes, front: FrontendNodes): Promise<boolean> {
    const key = JSON.stringify([back.type, back.params, back.mode]);
    if (!this.#medium) {
      if (this.#refusedKey === key) return false;
      return this.#plug(back, front, key);
    }
    if (this.#mediumKey !== key) {
      this.#mediumKey = key;
      if (front.cdrom) await this.#swap(back, front);
      else this.#log.warn({ params: back.params }, 'changing physical device not supported');
    } else if (this.#resized) {
      this.#resized = false;
      this.#log.info({ sizeBytes: this.sizeBytes }, 'the image has another size');
      await this.#write({ ...mediumNodes(this.#medium, this.#kind), state: back.state });
    }
    return true;
  }

  async #plug(back: BackendNodes, front: FrontendNodes, key: string): Promise<boolean> {
    const outcome = await openMedium(back, front.machine, this.#modules);
    if (outcome.kind !== 'open') {
      this.#refusedKey = key;
      this.#log.warn({ reason: outcome.text }, 'device refused');
      await this.#write({ 'hotplug-error': outcome.text, 'hotplug-status': outcome.kind });
      return false;
    }
    this.#medium = outcome.medium;
    this.#mediumKey = key;
    const fresh = back.state === XenbusState.Initialising || back.state === XenbusState.Unknown;
    this.#log.info({ image: outcome.medium.path, mode: back.mode, sizeBytes: this.sizeBytes }, 'device plugged');
    const written = await this.#write({
      ...backendFeatures(outcome.medium, this.#kind),
      'hotplug-status': 'connected',
      ...(fresh ? { state: XenbusState.InitWait } : {}),
    });
    // Looks again for what the frontend did meanwhile; gone: lets go.
    this.#again = true;
    return written && !fresh;
  }

  /** Another medium in the drive. The frontend sees its state written again and looks at size and mode. */
  async #swap(back: BackendNodes, front: FrontendNodes): Promise<void> {
    await Promise.all(this.#rings.map((ring) => ring.pause()));
    await this.#medium?.close();
    this.#medium = emptyMedium(back.mode === 'r');
    const outcome = await openMedium(back, front.machine, this.#modules);
    if (outcome.kind === 'open') this.#medium = outcome.medium;
    else this.#log.warn({ reason: outcome.text }, 'medium refused');
    this.#log.info({ image: this.#medium.path, sizeBytes: this.sizeBytes }, 'medium changed');
    const open = outcome.kind === 'open';
    await this.#write(
      {
        ...mediumNodes(this.#medium, this.#kind),
        ...(open ? {} : { 'hotplug-error': outcome.text }),
        state: back.state,
      },
      open ? ['hotplug-error'] : [],
    );
    for (const ring of this.#rings) ring.resume();
  }

  /* the frontend: what xen-blkback does (xenbus.c, frontend_changed) */

  async #follows(back: BackendNodes, front: FrontendNodes): Promise<void> {
    if (this.#fault !== undefined) await this.#closeFaulty(back);
    switch (front.state) {
      case XenbusState.Initialised:
      case XenbusState.Connected:
        await this.#connect(back, front);
        break;
      case XenbusState.Closing:
        // What it still has in its ring is served until it is closed; so after a restart of this process, too.
        if (!this.connected && back.state === XenbusState.Closing) await this.#connect(back, front);
        if (back.state < XenbusState.Closing) await this.#write({ state: XenbusState.Closing });
        break;
      case XenbusState.Closed:
        await this.#disconnect();
        this.#faulted = false;
        if (back.state !== XenbusState.Closed) await this.#write({ state: XenbusState.Closed });
        break;
      case XenbusState.Initialising:
        await this.#disconnect();
        this.#faulted = false;
        if (back.state !== XenbusState.InitWait) await this.#write({ state: XenbusState.InitWait });
        break;
      default:
        // No frontend: its domain is going, or coming.
        await this.#disconnect();
        if (back.state > XenbusState.InitWait && back.state !== XenbusState.Closed) {
          await this.#write({ state: XenbusState.Closed });
        }
    }
  }

  async #connect(back: BackendNodes, { parameters }: FrontendNodes): Promise<void> {
    if (this.#faulted || parameters === undefined) return;
    if (typeof parameters === 'string') {
      await this.#refuseFrontend(parameters);
      return;
    }
    const connection = JSON.stringify(parameters);
    if (this.#connection === connection) return;
    await this.#disconnect();
    const problem = await this.#openRings(parameters);
    if (this.#state === 'gone' || !this.#medium) return;
    if (problem !== undefined) {
      await this.#disconnect();
      await this.#refuseFrontend(problem);
      return;
    }
    this.#connection = connection;
    this.#log.info({ rings: parameters.rings.length, pages: parameters.rings[0]?.ringRefs.length }, 'connected');
    if (back.state === XenbusState.Connected || back.state === XenbusState.Closing) return;
    await this.#medium.refreshSize();
    await this.#write({ ...mediumNodes(this.#medium, this.#kind), state: XenbusState.Connected });
  }

  /** Undefined when all are served; else why not. */
  async #openRings({ width, rings }: FrontendParameters): Promise<string | undefined> {
    const { privcmd, pool } = this.#modules;
    const { domid } = this.options;
    const disk = this.#disk();
    for (const { ringRefs, port: remote } of rings) {
      const port = await this.#bind(remote);
      if (port === undefined) return `mapping event-channel ${remote}`;
      const ring = new BlkRing(
        { domid, ringRefs, port, width },
        {
          ...{ privcmd, disk, pool, share: this.#share, statistics: this.statistics },
          onFault: (reason) => {
            this.#fault = reason;
            this.poke();
          },
          onRefused: (reason) => {
            this.#refuse(reason);
          },
        },
      );
      this.#modules.rings.set(port, ring);
      this.#rings = [...this.#rings, ring];
      if (!(await ring.start())) return `mapping ring-ref ${ringRefs.join(' ')}`;
    }
    return undefined;
  }

  /** The medium may be swapped below the rings. */
  #disk() {
    const now = (): Medium => this.#medium ?? emptyMedium(true);
    return {
      get sizeBytes() {
        return now().sizeBytes;
      },
      get readOnly() {
        return now().readOnly;
      },
      get canDiscard() {
        return now().canDiscard;
      },
      read: (offset: number, target: Uint8Array) => now().read(offset, target),
      writev: (offset: number, pieces: readonly Uint8Array[]) => now().writev(offset, pieces),
      flush: () => now().flush(),
      discard: (offset: number, length: number) => now().discard(offset, length),
    };
  }

  /** The hypervisor frees a predecessor's end of the channel only when all that it asked for is done. */
  async #bind(remote: number): Promise<EvtchnPort | undefined> {
    const { privcmd } = this.#modules;
    const deadline = performance.now() + BIND_PATIENCE_MS;
    for (;;) {
      try {
        return await privcmd.bindInterdomain(this.options.domid, evtchnPort(remote));
      } catch (error) {
        if (!(error instanceof XenError)) throw error;
        if (this.#state === 'gone' || error.code !== 'EINVAL' || performance.now() >= deadline) return undefined;
        await new Promise((resolve) => setTimeout(resolve, BIND_RETRY_MS));
      }
    }
  }

  #refuse(reason: unknown): void {
    this.refused++;
    const now = performance.now();
    if (now < this.#loggedRefusalAt + REFUSAL_LOG_MS) return;
    this.#loggedRefusalAt = now;
    this.#log.warn(reason instanceof Error ? { err: reason } : { reason }, 'a request fails');
  }

  /** As xenbus_dev_fatal: the reason stands in `error/…`, and the frontend is asked to close. */
  async #refuseFrontend(reason: string): Promise<void> {
    this.#log.warn({ reason }, 'the frontend is not served');
    this.#faulted = true;
    await this.#write({ state: XenbusState.Closing });
    await this.#modules.xenstore.write(`/local/domain/0/error/${nodeName(this.options.path)}/error`, reason);
  }

  async #closeFaulty(back: BackendNodes): Promise<void> {
    const reason = this.#fault ?? '';
    this.#fault = undefined;
    await this.#disconnect();
    if (back.state < XenbusState.Closing) await this.#refuseFrontend(`frontend broke the protocol: ${reason}`);
    this.#faulted = true;
  }

  /* ends */

  async #disconnect(): Promise<void> {
    const { privcmd, rings } = this.#modules;
    const ending = this.#rings;
    this.#rings = [];
    this.#connection = undefined;
    for (const ring of ending) rings.delete(ring.port);
    await Promise.all(ending.map((ring) => ring.stop()));
    this.#endedBatches += ending.reduce((sum, ring) => sum + ring.batches, 0);
    this.#share.end();
    await Promise.all(ending.map((ring) => privcmd.unbind(ring.port).catch(() => undefined)));
    if (ending.length > 0) this.#log.info('disconnected');
  }

  async #letGo(): Promise<void> {
    await this.#disconnect();
    const medium = this.#medium;
    this.#medium = this.#mediumKey = this.#refusedKey = undefined;
    this.#faulted = false;
    await medium?.close().catch((error: unknown) => {
      this.#log.error({ err: error }, 'the image was not closed cleanly');
    });
    if (medium) this.#log.info({ image: medium.path }, 'device unplugged');
  }

  /** Closed for good, as the toolstack asked. */
  async #finish(back: BackendNodes): Promise<void> {
    await this.#letGo();
    if (back.state === XenbusState.Closed && back.hotplugStatus === undefined) return;
    await this.#write({ state: XenbusState.Closed }, ['hotplug-status', 'hotplug-error']);
  }

  async #vanish(): Promise<void> {
    this.#state = 'gone';
    this.#following?.abort.abort();
    await this.#letGo();
    await this.#modules.xenstore.rm(`/local/domain/0/error/${nodeName(this.options.path)}`).catch(() => undefined);
    this.#modules.onGone(this, this.#again);
  }

  /** Writes nodes of the device unless it is gone: it must not come back. Whether it was there. */
  #write(nodes: Nodes, without: readonly string[] = []): Promise<boolean> {
    const { path } = this.options;
    return this.#modules.xenstore.transaction(async (t) => {
      if (!(await t.exists(`${path}/frontend`))) return false;
      await Promise.all([
        ...Object.entries(nodes).map(([key, value]) => t.write(`${path}/${key}`, value)),
        ...without.map(async (key) => {
          if (await t.exists(`${path}/${key}`)) await t.rm(`${path}/${key}`);
        }),
      ]);
      return true;
    });
  }
}
