/** A running xend: machines, events, servers. main.ts gives it real collaborators, tests fakes. */
import type { FastifyInstance } from 'fastify';
import { DomainManager } from './domain/manager.ts';
import { messageOf } from './errors.ts';
import type { XendPorts } from './ports.ts';
import type { MethodContext } from './rpc/method.ts';
import { buildServer, listenOnPath } from './server.ts';
import { openManagedStore } from './store/managed.ts';

export interface XendOptions {
  /** The Unix socket of XML-RPC. */
  readonly socketPath: string;
  /** Where XML-RPC is served on TCP too. */
  readonly tcp?: { readonly host: string; readonly port: number };
  /** Folder of the managed domains. */
  readonly stateDirectory: string;
  /** How often to look at the hypervisor's list without being told, ms; 0 = never. */
  readonly pollMs?: number;
}

/** xenstored tells of every end of a domain; this catches what was missed while it restarted. */
const DEFAULT_POLL_MS = 5_000;

export class Xend {
  readonly manager: DomainManager;
  /** The port that TCP is served on, once it is: the one asked for, or one picked when that was 0. */
  tcpPort: number | undefined;
  readonly #ports: XendPorts;
  readonly #options: XendOptions;
  readonly #abort = new AbortController();
  readonly #servers: FastifyInstance[] = [];
  #poll: NodeJS.Timeout | undefined;
  #watching: Promise<void> | undefined;

  constructor(options: XendOptions, ports: XendPorts) {
    this.#options = options;
    this.#ports = ports;
    this.manager = new DomainManager(ports, openManagedStore(options.stateDirectory, ports.log));
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
    const local = this.#server();
    await listenOnPath(local, this.#options.socketPath);
    this.#ports.log.info('XMLRPCServer', `Opening Unix domain socket XML-RPC server on ${this.#options.socketPath}`);
    if (this.#options.tcp) {
      const remote = this.#server();
      await remote.listen({ ...this.#options.tcp });
      const { host } = this.#options.tcp;
      const address = remote.server.address();
      const port = address !== null && typeof address === 'object' ? address.port : this.#options.tcp.port;
      this.tcpPort = port;
      this.#ports.log.info('XMLRPCServer', `Opening TCP XML-RPC server on ${host}:${port}`);
    }
  }

  #server(): FastifyInstance {
    const server = buildServer(this.context);
    this.#servers.push(server);
    return server;
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

  /** Closes the servers and lets background work end; domains stay. */
  async stop(): Promise<void> {
    this.#abort.abort();
    clearInterval(this.#poll);
    for (const server of this.#servers) server.server.closeAllConnections();
    await Promise.all(this.#servers.map((server) => server.close()));
    await this.#watching;
  }
}
