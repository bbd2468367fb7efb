/** Event channels of all vifs: who hears which port. */
import type { Domid, EvtchnPort } from '@xenhost/base';
import { evtchnPort } from '@xenhost/base';
import type { MemoryResult, PageRange, PrivcmdPort } from '@xenhost/privcmd';

export type PortHandler = (reads?: readonly MemoryResult[]) => void;

export class EventPorts {
  readonly #privcmd: PrivcmdPort;
  readonly #handlers = new Map<EvtchnPort, PortHandler>();

  constructor(privcmd: PrivcmdPort) {
    this.#privcmd = privcmd;
    privcmd.onEvent((port, reads) => {
      this.#handlers.get(port)?.(reads);
    });
  }

  /** Binds a port that a guest offers. Rejects with XenError when it does not. */
  async bind(domid: Domid, remotePort: number): Promise<EvtchnPort> {
    return this.#privcmd.bindInterdomain(domid, evtchnPort(remotePort));
  }

  /** Who hears a port, and what comes with its events. */
  async listen(port: EvtchnPort, reads: readonly PageRange[], handler: PortHandler): Promise<void> {
    this.#handlers.set(port, handler);
    await this.#privcmd.readOnEvent(port, reads);
  }

  /** Lets go of a port; one that went with its domain is no error. */
  async unbind(port: EvtchnPort): Promise<void> {
    this.#handlers.delete(port);
    await this.#privcmd.unbind(port).catch(() => undefined);
  }
}
