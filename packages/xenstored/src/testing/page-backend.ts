/** A hypervisor behind the real privcmd socket whose domains are the pages of FakePages: for daemons in processes of their own. */
import { Errno, evtchnPort } from '@xenhost/base';
import type { EvtchnPort } from '@xenhost/base';
import type { Arena, EventSink, MemoryOp, MemoryResult, PrivcmdBackend } from '@xenhost/privcmd';
import { answerDomainList } from '@xenhost/privcmd/testing';
import type { FakePages } from '@xenhost/privcmd/testing';

const VIRQ_PORT = 1;

export class PageBackend implements PrivcmdBackend {
  readonly #pages: FakePages;
  /** Ports that are bound: events on others are lost, as with real ones. */
  readonly #bound = new Set<EvtchnPort>();
  #sink: EventSink = () => undefined;

  constructor(pages: FakePages) {
    this.#pages = pages;
    pages.onEvent((port) => {
      if (this.#bound.has(port)) this.#sink(port);
    });
  }

  hypercall(_connection: number, op: number, args: bigint[], memory: Arena): number {
    return answerDomainList(op, args, { memory, domids: [...this.#pages.guests.keys()] });
  }

  memory(_connection: number, ops: readonly MemoryOp[]): MemoryResult[] {
    return this.#pages.run(ops);
  }

  bindInterdomain(_connection: number, remote: number): number {
    const port = this.#pages.guests.get(remote)?.port;
    if (port === undefined) return -Errno.ESRCH;
    if (this.#bound.has(port)) return -Errno.EINVAL;
    this.#bound.add(port);
    return port;
  }

  bindVirq(): number {
    if (this.#bound.has(evtchnPort(VIRQ_PORT))) return -Errno.EEXIST;
    this.#bound.add(evtchnPort(VIRQ_PORT));
    return VIRQ_PORT;
  }

  bindUnbound(): number {
    return -Errno.ENOSYS;
  }

  notify(): number {
    return 0;
  }

  unbind(_connection: number, port: EvtchnPort): number {
    return this.#bound.delete(port) ? 0 : -Errno.EINVAL;
  }

  connectionClosed(): void {
    // Ports were unbound; nothing else is held for a connection.
  }

  setEventSink(sink: EventSink): void {
    this.#sink = sink;
  }
}
