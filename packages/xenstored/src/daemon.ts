/** xenstored put together: the core, its socket, and the rings when there is a hypervisor. */
import type { Logger } from '@xenhost/daemon-kit';
import type { PrivcmdPort } from '@xenhost/privcmd';
import { XenstoreCore } from './core/core.ts';
import type { DomainCondition, DomainGate } from './core/core.ts';
import type { Quotas } from './core/limits.ts';
import { RingServer } from './server/ring-server.ts';
import { serveSocket } from './server/socket-server.ts';

/** VIRQ_DOM_EXC (`xen.h`): a domain has shut down or died. */
const VIRQ_DOM_EXC = 3;

export interface XenstoredOptions {
  readonly socketPath: string;
  readonly quotas?: Partial<Quotas>;
}

/** A domain as the hypervisor lists it. */
export interface ListedDomain {
  readonly domid: number;
  readonly dying: boolean;
  readonly shutdown: boolean;
  readonly crashed: boolean;
}

export interface HypervisorLink {
  readonly privcmd: PrivcmdPort;
  listDomains(): Promise<readonly ListedDomain[]>;
}

export interface XenstoredModules {
  /** Absent: the socket alone is served, and an introduced domain has no ring. */
  readonly hypervisor?: HypervisorLink;
  readonly log: Logger;
}

export interface Xenstored {
  readonly core: XenstoreCore;
  stop(): Promise<void>;
}

const NO_RINGS: DomainGate = {
  introduce: () => Promise.resolve(),
  release: () => undefined,
};

export async function startXenstored(options: XenstoredOptions, modules: XenstoredModules): Promise<Xenstored> {
  const { hypervisor, log } = modules;
  const checker = hypervisor ? new DomainChecker(hypervisor, log) : undefined;
  const rings = hypervisor
    ? new RingServer({
        privcmd: hypervisor.privcmd,
        log,
        onIntroduced: () => checker?.check(),
        beforeSend: () => undefined,
        records: { watchesChanged: () => undefined, ringState: () => undefined },
      })
    : undefined;
  const core = new XenstoreCore(options.quotas === undefined ? {} : { quotas: options.quotas }, {
    gate: rings ?? NO_RINGS,
    log: (message, data) => {
      if ('err' in data) log.error(data, message);
      else log.info(data, message);
    },
    ...(hypervisor
      ? { existing: async () => new Set((await hypervisor.listDomains()).map(({ domid }) => domid)) }
      : {}),
  });
  rings?.attach(core);
  writeDomain0(core);
  await checker?.start(core);
  const listener = await serveSocket(options.socketPath, { core, beforeSend: () => undefined });
  return { core, stop: () => listener.close() };
}

/** What xen-init-dom0 writes on a real host. */
function writeDomain0(core: XenstoreCore): void {
  core.setup([
    ['/local', ''],
    ['/local/domain', ''],
    ['/local/domain/0', ''],
    ['/local/domain/0/domid', '0'],
    ['/local/domain/0/name', 'Domain-0'],
  ]);
}

/** Asks the hypervisor what has become of domains, whenever it says that something has. */
class DomainChecker {
  readonly #hypervisor: HypervisorLink;
  readonly #log: Logger;
  #core: XenstoreCore | undefined;
  #running = false;
  #again = false;

  constructor(hypervisor: HypervisorLink, log: Logger) {
    this.#hypervisor = hypervisor;
    this.#log = log;
  }

  async start(core: XenstoreCore): Promise<void> {
    this.#core = core;
    const { privcmd } = this.#hypervisor;
    const port = await privcmd.bindVirq(VIRQ_DOM_EXC);
    privcmd.onEvent((event) => {
      if (event === port) this.check();
    });
  }

  check(): void {
    this.#again = true;
    if (this.#running) return;
    this.#running = true;
    this.#rounds().then(
      () => {
        this.#running = false;
      },
      (error: unknown) => {
        this.#running = false;
        this.#log.error({ err: error }, 'cannot list domains');
      },
    );
  }

  async #rounds(): Promise<void> {
    while (this.#again) {
      this.#again = false;
      // Who becomes known while the list is on its way may be missing in it.
      const asked = new Set(Array.from(this.#core?.known.known() ?? [], ([domid]) => domid));
      const listed = new Map((await this.#hypervisor.listDomains()).map((domain) => [domain.domid, domain]));
      const conditionOf = (domid: number): DomainCondition => {
        const domain = listed.get(domid);
        if (!domain || domain.dying) return domain || asked.has(domid) ? 'gone' : 'alive';
        return domain.shutdown || domain.crashed ? 'shutdown' : 'alive';
      };
      while (this.#core?.checkDomains(conditionOf)) await new Promise(setImmediate);
    }
  }
}
