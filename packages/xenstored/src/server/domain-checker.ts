/** Asks the hypervisor what has become of domains, whenever it says that something has (VIRQ_DOM_EXC). */
import type { EvtchnPort } from '@xenhost/base';
import type { Logger } from '@xenhost/daemon-kit';
import type { PrivcmdPort } from '@xenhost/privcmd';
import type { DomainCondition, XenstoreCore } from '../core/core.ts';

/** A domain has shut down or died (`xen.h`). */
const VIRQ_DOM_EXC = 3;

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

export class DomainChecker {
  readonly #hypervisor: HypervisorLink;
  readonly #log: Logger;
  #core: XenstoreCore | undefined;
  #port: EvtchnPort | undefined;
  #stopListening: () => void = () => undefined;
  #running = false;
  #again = false;

  constructor(hypervisor: HypervisorLink, log: Logger) {
    this.#hypervisor = hypervisor;
    this.#log = log;
  }

  async start(core: XenstoreCore): Promise<void> {
    this.#core = core;
    if (this.#port !== undefined) return;
    const { privcmd } = this.#hypervisor;
    const port = await privcmd.bindVirq(VIRQ_DOM_EXC);
    this.#port = port;
    this.#stopListening = privcmd.onEvent((event) => {
      if (event === port) this.check();
    });
  }

  /** Gives the event channel up. */
  async stop(): Promise<void> {
    const port = this.#port;
    this.#core = undefined;
    this.#port = undefined;
    this.#stopListening();
    if (port !== undefined) await this.#hypervisor.privcmd.unbind(port).catch(() => undefined);
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
