/** A daemon's link to the hypervisor that ends where a kill of the daemon would: in front of a batch, or behind it. */
import type { EventListener, MemoryOp, MemoryResult, PrivcmdPort } from '@xenhost/privcmd';

const never = <T>(): Promise<T> => new Promise<T>(() => undefined);

export class MortalLink implements PrivcmdPort {
  readonly #inner: PrivcmdPort;
  /** Batches that are still answered. */
  #left: number;
  readonly #lastIsRun: boolean;
  #dead = false;

  /** After `batches` answered ones the next is run but not answered (`lastIsRun`), or not even run. */
  constructor(inner: PrivcmdPort, batches = Infinity, lastIsRun = true) {
    this.#inner = inner;
    this.#left = batches;
    this.#lastIsRun = lastIsRun;
  }

  get dead(): boolean {
    return this.#dead;
  }

  kill(): void {
    this.#dead = true;
  }

  memory(ops: readonly MemoryOp[]): Promise<readonly MemoryResult[]> {
    if (this.#dead) return never();
    if (this.#left-- > 0) return this.#inner.memory(ops);
    this.#dead = true;
    if (this.#lastIsRun) void this.#inner.memory(ops);
    return never();
  }

  onEvent(listener: EventListener): () => void {
    return this.#inner.onEvent((port, reads) => {
      if (!this.#dead) listener(port, reads);
    });
  }

  readOnEvent: PrivcmdPort['readOnEvent'] = (port, reads) => this.#inner.readOnEvent(port, reads);
  bindInterdomain: PrivcmdPort['bindInterdomain'] = (remote, port) => this.#inner.bindInterdomain(remote, port);
  bindVirq: PrivcmdPort['bindVirq'] = (virq) => this.#inner.bindVirq(virq);
  bindUnbound: PrivcmdPort['bindUnbound'] = (remote) => this.#inner.bindUnbound(remote);
  hypercall: PrivcmdPort['hypercall'] = (request) => this.#inner.hypercall(request);
  notify: PrivcmdPort['notify'] = (port) => this.#inner.notify(port);
  unbind: PrivcmdPort['unbind'] = (port) => this.#inner.unbind(port);
  restrict: PrivcmdPort['restrict'] = (restriction) => this.#inner.restrict(restriction);
  onClose: PrivcmdPort['onClose'] = (listener) => this.#inner.onClose(listener);
  close: PrivcmdPort['close'] = () => this.#inner.close();
}
