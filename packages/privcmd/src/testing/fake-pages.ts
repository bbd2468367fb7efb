/**
 * A PrivcmdPort on which each domain is one page and one event channel: what a daemon that serves rings sees of its
 * guests.
 */
import { evtchnPort } from '@xenhost/base';
import type { EvtchnPort } from '@xenhost/base';
import type { EventListener, MemoryOp, MemoryResult, PageRange, PrivcmdPort, RemotePage } from '../port.ts';
import { runSteps } from '../steps.ts';

const ENOENT = -2;

export interface PageOwner {
  readonly port: EvtchnPort;
  readonly bytes: Uint8Array;
  /** Events that this domain got. */
  notifications: number;
}

export class FakePages implements PrivcmdPort {
  readonly guests = new Map<number, PageOwner>();
  readonly #listeners = new Set<EventListener>();
  readonly #reads = new Map<EvtchnPort, readonly PageRange[]>();
  /** Number of batches so far. */
  batches = 0;

  deliver(port: EvtchnPort): void {
    const reads = this.#reads.get(port)?.map((read): MemoryOp => ({ kind: 'read', ...read }));
    for (const listener of this.#listeners) listener(port, reads && this.#steps(reads));
  }

  memory(ops: readonly MemoryOp[]): Promise<readonly MemoryResult[]> {
    return Promise.resolve(this.run(ops));
  }

  /** A batch at once. */
  run(ops: readonly MemoryOp[]): MemoryResult[] {
    this.batches++;
    return this.#steps(ops);
  }

  #steps(ops: readonly MemoryOp[]): MemoryResult[] {
    const pageOf = (page: RemotePage): Uint8Array | undefined =>
      page.space === 'grant' ? undefined : this.guests.get(page.domid)?.bytes;
    return runSteps(ops, {
      read: ({ page, offset }, target) => {
        const bytes = pageOf(page);
        target.set(bytes?.subarray(offset, offset + target.length) ?? []);
        return bytes ? 0 : ENOENT;
      },
      write: ({ page, offset }, data) => {
        const bytes = pageOf(page);
        bytes?.set(data, offset);
        return bytes ? 0 : ENOENT;
      },
      notify: (port) => {
        for (const guest of this.guests.values()) if (guest.port === port) guest.notifications++;
        return 0;
      },
    });
  }

  readOnEvent(port: EvtchnPort, reads: readonly PageRange[]): Promise<void> {
    this.#reads.set(port, reads);
    return Promise.resolve();
  }

  bindInterdomain(domid: number): Promise<EvtchnPort> {
    const guest = this.guests.get(domid);
    return guest
      ? Promise.resolve(guest.port)
      : Promise.reject(Object.assign(new Error('no domain'), { code: 'ESRCH' }));
  }

  bindVirq(): Promise<EvtchnPort> {
    return Promise.resolve(evtchnPort(1));
  }

  onEvent(listener: EventListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  unbind(): Promise<void> {
    return Promise.resolve();
  }

  notify(): Promise<void> {
    return Promise.resolve();
  }

  onClose(): () => void {
    return () => undefined;
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  restrict(): Promise<void> {
    return Promise.resolve();
  }

  hypercall(): Promise<bigint> {
    return Promise.reject(new Error('not needed here'));
  }

  bindUnbound(): Promise<EvtchnPort> {
    return Promise.reject(new Error('not needed here'));
  }
}
