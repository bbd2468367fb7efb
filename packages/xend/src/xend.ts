/** A running xend: machines, events, servers. main.ts gives it real collaborators, tests fakes. */
import { isDeepStrictEqual } from 'node:util';
import { DomainManager } from './domain/manager.ts';
import { messageOf } from './errors.ts';
import type { Authenticate } from './http/pam.ts';
import { closeServers, openServers, type OpenServer } from './http/servers.ts';
import type { ServerSpec, Service } from './options/servers.ts';
import type { XendPorts } from './ports.ts';
import { methods } from './rpc/dispatch.ts';
import type { MethodContext } from './rpc/method.ts';
import { openManagedStore, stateFolders, type StateFolders } from './store/managed.ts';
import { createXenApi, type XenApi } from './xenapi/index.ts';

export interface XendOptions {
  /** What is served, and where. */
  readonly servers: readonly ServerSpec[];
  /** Folder of the managed domains. */
  readonly stateDirectory: string;
  /** Parts of it that are elsewhere. */
  readonly folders?: StateFolders;
  /** How often to look at the hypervisor's list without being told, ms; 0 = never. */
  readonly pollMs?: number;
}

/** xenstored tells of every end of a domain; this catches what was missed while it restarted. */
const DEFAULT_POLL_MS = 5_000;

export class Xend {
  readonly manager: DomainManager;
  readonly xenApi: XenApi;
  readonly #ports: XendPorts;
  readonly #options: XendOptions;
  readonly #abort = new AbortController();
  #servers: readonly OpenServer[] = [];
  #poll: NodeJS.Timeout | undefined;
  #watching: Promise<void> | undefined;

  /** Without `authenticate` nobody gets into a Xen-API that asks for passwords. */
  constructor(options: XendOptions, ports: XendPorts, authenticate?: Authenticate) {
    this.#options = options;
    this.#ports = ports;
    const { stateDirectory, folders = stateFolders(stateDirectory) } = options;
    this.manager = new DomainManager(ports, openManagedStore(stateDirectory, ports.log, folders));
    const { context } = this;
    this.xenApi = createXenApi(
      { stateFolder: folders.state, storageFolder: folders.storage },
      { context, methods, ...(authenticate && { authenticate }) },
    );
  }

  get context(): MethodContext {
    return { manager: this.manager };
  }

  /** Resolves when domains are known and the servers listen. */
  async start(): Promise<void> {
    await this.manager.start();
    this.#watching = this.#watchReleases();
    const pollMs = this.#options.pollMs ?? DEFAULT_POLL_MS;
    if (pollMs > 0) {
      this.#poll = setInterval(() => {
        this.#refresh();
      }, pollMs);
      this.#poll.unref();
    }
    const { context, xenApi } = this;
    this.#servers = await openServers(this.#options.servers, { context, xenApi, log: this.#ports.log });
    // They come up while calls are served.
    void this.manager.autostart();
  }

  /**
   * Serves what another configuration asks for (Xen 4.4 `SrvServer.py`, reloadConfig): servers that stay as they are go on,
   * others end with their connections; then what shall run whenever xend starts is started. Throws Error; the servers are
   * the former ones then, as far as they can be opened again.
   */
  async reload(specs: readonly ServerSpec[]): Promise<void> {
    const { log } = this.#ports;
    log.info('SrvServer', 'Restarting all XML-RPC and Xen-API servers...');
    // Files of a key and a certificate may hold others now.
    const stays = (spec: ServerSpec): boolean => !spec.tls && specs.some((other) => isDeepStrictEqual(other, spec));
    const former = this.#servers;
    const kept = former.filter(({ spec }) => stays(spec));
    const modules = { context: this.context, xenApi: this.xenApi, log };
    await closeServers(former.filter((server) => !kept.includes(server)));
    this.#servers = kept;
    const isNew = (spec: ServerSpec): boolean => !kept.some((server) => isDeepStrictEqual(server.spec, spec));
    try {
      this.#servers = [...kept, ...(await openServers(specs.filter(isNew), modules))];
    } catch (error) {
      this.#servers = [...kept, ...(await openServers(former.map(({ spec }) => spec).filter(isNew), modules))];
      throw error;
    }
    await this.manager.applyDom0Settings();
    void this.manager.autostart();
  }

  /** The port of the first TCP server of a service: the one asked for, or the one picked when that was 0. */
  portOf(service: Service): number | undefined {
    return this.#servers.find(({ spec, port }) => spec.service === service && port !== undefined)?.port;
  }

  async #watchReleases(): Promise<void> {
    try {
      const releases = this.#ports.store.watch('@releaseDomain', { signal: this.#abort.signal });
      while (!(await releases.next()).done) this.#refresh();
    } catch (error) {
      this.#ports.log.error('XendDomain', `Lost the watch on ends of domains: ${messageOf(error)}`);
    }
  }

  #refresh(): void {
    this.manager.refresh().catch((error: unknown) => {
      this.#ports.log.error('XendDomain', `Cannot list domains: ${messageOf(error)}`, error);
    });
  }

  /** Does what on_xend_stop says, closes the servers and lets background work end; other domains stay. */
  async stop(): Promise<void> {
    await this.manager.stopDomains();
    this.#abort.abort();
    clearInterval(this.#poll);
    await closeServers(this.#servers);
    this.manager.unplugs.close();
    this.manager.deviceModels.close();
    await this.xenApi.close();
    await this.#watching;
  }
}
