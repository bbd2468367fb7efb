/**
 * A PrivcmdPort on which each domain is one page and one event channel: what a daemon that serves rings sees of its
 * guests.
 */
import { evtchnPort } from '@xenhost/base';
import type { EvtchnPort } from '@xenhost/base';
import type { MemoryOp, MemoryResult, PrivcmdPort } from '../port.ts';

const ENOENT = -2;

export interface PageOwner {
  readonly port: EvtchnPort;
  readonly bytes: Uint8Array;
  /** Events that this domain got. */
  notifications: number;
}

export class FakePages implements PrivcmdPort {
  readonly guests = new Map<number, PageOwner>();
  readonly #listeners = new Set<(port: EvtchnPort) => void>();
  /** Number of batches so far. */
  batches = 0;

  deliver(port: EvtchnPort): void {
    for (const listener of this.#listeners) listener(port);
  }

  memory(ops: readonly MemoryOp[]): Promise<readonly MemoryResult[]> {
    return Promise.resolve(this.run(ops));
  }

  /** A batch at once. */
  run(ops: readonly MemoryOp[]): MemoryResult[] {
    this.batches++;
    return ops.map((op): MemoryResult => {
      if (op.kind === 'notify') {
        for (const guest of this.guests.values()) if (guest.port === op.port) guest.notifications++;
        return { status: 0 };
      }
      const guest = this.guests.get(op.page.domid);
      if (!guest || op.page.space === 'grant') return { status: ENOENT };
      if (op.kind === 'write') {
        guest.bytes.set(op.data, op.offset);
        return { status: 0 };
      }
      return { status: 0, data: guest.bytes.slice(op.offset, op.offset + op.length) };
    });
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

  onEvent(listener: (port: EvtchnPort) => void): () => void {
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
