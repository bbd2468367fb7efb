/**
 * The backend's half of the xenbus handshake for one device of one domain: follows the states of both ends
 * (`xen/include/public/io/xenbus.h`) and tells a driver when to connect to the frontend and when to let go. Comes in at any
 * point: before the guest, after it, or in place of a process that died.
 */
import { XenbusState } from '@xenhost/xen-abi';
import type { XenstoreClient } from '@xenhost/xenstore-client';
import type { Logger } from '@xenhost/daemon-kit';

/** The frontend's directory. */
export interface FrontendNodes {
  read(key: string): Promise<string | undefined>;
  /** The value as a number; undefined when it is missing or none. */
  readNumber(key: string): Promise<number | undefined>;
}

export interface SplitDriver {
  /** What the backend's directory says before the frontend looks. */
  readonly features: Readonly<Record<string, string | number>>;
  /** Throws FrontendFault when the guest has given nonsense. Resolves to nodes to be written before the state. */
  connect(frontend: FrontendNodes): Promise<Readonly<Record<string, string | number>>>;
  disconnect(): Promise<void>;
}

/** What a guest's frontend has done wrong. */
export class FrontendFault extends Error {
  override readonly name = 'FrontendFault';
}

export interface SplitDeviceOptions {
  readonly deviceClass: 'vfb' | 'vkbd';
  readonly domid: number;
  readonly deviceId: number;
}

export interface SplitDeviceModules {
  readonly xenstore: XenstoreClient;
  readonly driver: SplitDriver;
  readonly log: Logger;
}

/** What a frontend writes anew when it starts anew. */
const RING_KEYS = ['page-ref', 'page-gref', 'event-channel'];

export class SplitDevice {
  readonly path: string;
  readonly #modules: SplitDeviceModules;
  readonly #stopping = new AbortController();
  #frontendPath: string | undefined;
  #frontendWatch = new AbortController();
  #work: Promise<void> = Promise.resolve();
  #connected = false;
  /** Where the frontend's page and channel were when the driver connected. */
  #ring = '';
  /** The frontend's nonsense is not tried again until it starts anew. */
  #refused = false;

  constructor({ deviceClass, domid, deviceId }: SplitDeviceOptions, modules: SplitDeviceModules) {
    this.path = `/local/domain/0/backend/${deviceClass}/${domid}/${deviceId}`;
    this.#modules = modules;
  }

  /** Resolves when the device, if there is one by now, has been seen once. */
  async start(): Promise<void> {
    const watch = this.#modules.xenstore.watch(this.path, { signal: this.#stopping.signal });
    await watch.registered;
    void this.#follow(watch);
    await this.#step();
  }

  /** Lets go of the guest; the states stay, for a successor. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#frontendWatch.abort();
    await this.#work;
    await this.#disconnect();
  }

  async #follow(events: AsyncIterableIterator<unknown>): Promise<void> {
    try {
      while (!(await events.next()).done) await this.#step();
    } catch (error) {
      if (!this.#stopping.signal.aborted) this.#modules.log.warn({ err: error }, 'watch ended');
    }
  }

  #step(): Promise<void> {
    this.#work = this.#work
      .then(() => (this.#stopping.signal.aborted ? undefined : this.#look()))
      .catch((error: unknown) => {
        if (!this.#stopping.signal.aborted) this.#modules.log.error({ err: error, path: this.path }, 'device');
      });
    return this.#work;
  }

  async #look(): Promise<void> {
    const { xenstore } = this.#modules;
    const [frontendPath, state, online] = await Promise.all(
      ['frontend', 'state', 'online'].map((key) => xenstore.tryRead(`${this.path}/${key}`)),
    );
    if (frontendPath === undefined || state === undefined) {
      await this.#disconnect();
      return;
    }
    if (online === '0' || Number(state) === XenbusState.Closing) {
      await this.#disconnect();
      await this.#enter(XenbusState.Closed);
      return;
    }
    this.#watchFrontend(frontendPath);
    await this.#answer(Number((await xenstore.tryRead(`${frontendPath}/state`)) ?? 0), Number(state), frontendPath);
  }

  async #answer(frontend: number, own: number, frontendPath: string): Promise<void> {
    switch (frontend) {
      case XenbusState.Initialising:
        this.#refused = false;
        await this.#disconnect();
        if (own !== XenbusState.InitWait) await this.#enter(XenbusState.InitWait, this.#modules.driver.features);
        return;
      case XenbusState.Initialised:
      case XenbusState.Connected:
        await this.#serve(own, frontendPath);
        return;
      case XenbusState.Closing:
        await this.#disconnect();
        await this.#enter(XenbusState.Closing);
        return;
      case XenbusState.Closed:
        await this.#disconnect();
        await this.#enter(XenbusState.Closed);
        return;
      case XenbusState.Unknown:
        await this.#disconnect();
    }
  }

  /** Connects; again where the frontend has come back with another page or channel, as after a suspend. */
  async #serve(own: number, frontendPath: string): Promise<void> {
    if (this.#refused) return;
    const read = (key: string): Promise<string> =>
      this.#modules.xenstore.tryRead(`${frontendPath}/${key}`).then((value) => value ?? '');
    const ring = (await Promise.all(RING_KEYS.map(read))).join(' ');
    if (this.#connected && ring === this.#ring) return;
    await this.#disconnect();
    this.#ring = ring;
    await this.#connect(own, frontendPath);
  }

  async #connect(own: number, frontendPath: string): Promise<void> {
    const { xenstore, driver, log } = this.#modules;
    const read = (key: string): Promise<string | undefined> => xenstore.tryRead(`${frontendPath}/${key}`);
    const frontend: FrontendNodes = {
      read,
      readNumber: async (key) => {
        const text = await read(key);
        return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
      },
    };
    if (own === XenbusState.Initialising) await this.#enter(XenbusState.InitWait, driver.features);
    try {
      const nodes = await driver.connect(frontend);
      this.#connected = true;
      await this.#enter(XenbusState.Connected, nodes);
      log.info({ path: this.path }, 'connected');
    } catch (error) {
      await driver.disconnect();
      this.#connected = false;
      if (!(error instanceof FrontendFault)) throw error;
      this.#refused = true;
      log.error({ path: this.path, reason: error.message }, 'the frontend cannot be served');
      await this.#enter(XenbusState.Closed);
    }
  }

  async #disconnect(): Promise<void> {
    if (!this.#connected) return;
    this.#connected = false;
    await this.#modules.driver.disconnect();
    this.#modules.log.info({ path: this.path }, 'disconnected');
  }

  #watchFrontend(path: string): void {
    if (path === this.#frontendPath) return;
    this.#frontendWatch.abort();
    this.#frontendWatch = new AbortController();
    this.#frontendPath = path;
    const signal = AbortSignal.any([this.#stopping.signal, this.#frontendWatch.signal]);
    void this.#follow(this.#modules.xenstore.watch(`${path}/state`, { signal }));
  }

  /** Writes nodes and then the state, unless the toolstack has removed the device meanwhile: it must not come back. */
  #enter(state: number, nodes: Readonly<Record<string, string | number>> = {}): Promise<void> {
    return this.#modules.xenstore.transaction(async (t) => {
      const now = await t.tryRead(`${this.path}/state`);
      if (now === undefined) return;
      for (const [key, value] of Object.entries(nodes)) await t.write(`${this.path}/${key}`, value);
      if (now !== String(state)) await t.write(`${this.path}/state`, state);
    });
  }
}
