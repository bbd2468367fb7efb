/** privcmd without a socket: the same sessions over a backend in this process. For tests and tools of one process. */
import { Errno, XenError } from '@xenhost/base';
import type { Domid, EvtchnPort } from '@xenhost/base';
import { arenaProblem, ArenaMemory } from './arena.ts';
import { DEFAULT_LIMITS } from './limits.ts';
import type {
  EventListener,
  HypercallRequest,
  MemoryOp,
  MemoryResult,
  PageRange,
  PrivcmdPort,
  Restriction,
} from './port.ts';
import type { PrivcmdBackend, PrivcmdLimits, PrivcmdServerEvent } from './server.ts';
import { portOrThrow, SessionHub } from './session.ts';
import type { Session } from './session.ts';

export interface LocalPrivcmdOptions {
  readonly limits?: Partial<PrivcmdLimits>;
  readonly log?: (event: PrivcmdServerEvent) => void;
}

/** Opens connections over one backend; a backend has one opener, as it has one event sink. */
export function localPrivcmd(options: LocalPrivcmdOptions, backend: PrivcmdBackend): { open(): LocalPrivcmd } {
  const hub = new SessionHub({ limits: { ...DEFAULT_LIMITS, ...options.limits }, log: options.log }, backend);
  return { open: () => new LocalPrivcmd(hub) };
}

export class LocalPrivcmd implements PrivcmdPort {
  readonly #session: Session;
  readonly #listeners = new Set<EventListener>();
  readonly #closeListeners = new Set<(error?: Error) => void>();
  #closed = false;

  constructor(hub: SessionHub) {
    this.#session = hub.open((ports) => {
      for (const raised of ports) {
        const { port, reads } = this.#session.withReads(raised);
        for (const listener of [...this.#listeners]) listener(port, reads);
      }
    });
  }

  async hypercall(request: HypercallRequest): Promise<bigint> {
    this.#check('hypercall');
    const arena = request.arena ?? [];
    const problem = arenaProblem(arena);
    if (problem) throw new XenError(Errno.EINVAL, `hypercall: ${problem}`);
    const parts = arena.map(({ address, bytes, output }) => ({ address, bytes: output ? bytes : bytes.slice() }));
    return this.#session.hypercall(request.op, request.args, new ArenaMemory(parts));
  }

  async memory(ops: readonly MemoryOp[]): Promise<readonly MemoryResult[]> {
    this.#check('memory');
    return this.#session.memory(ops);
  }

  async bindUnbound(remote: Domid): Promise<EvtchnPort> {
    return this.#port('bindUnbound', () => this.#session.bindUnbound(remote));
  }

  async bindInterdomain(remote: Domid, remotePort: EvtchnPort): Promise<EvtchnPort> {
    return this.#port('bindInterdomain', () => this.#session.bindInterdomain(remote, remotePort));
  }

  async bindVirq(virq: number): Promise<EvtchnPort> {
    return this.#port('bindVirq', () => this.#session.bindVirq(virq));
  }

  async notify(port: EvtchnPort): Promise<void> {
    await this.#port('notify', () => this.#session.notify(port));
  }

  async unbind(port: EvtchnPort): Promise<void> {
    await this.#port('unbind', () => this.#session.unbind(port));
  }

  onEvent(listener: EventListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async readOnEvent(port: EvtchnPort, reads: readonly PageRange[]): Promise<void> {
    await this.#port('readOnEvent', () => this.#session.readOnEvent(port, reads));
  }

  async restrict(restriction: Restriction): Promise<void> {
    await this.#port('restrict', () => this.#session.restrict(restriction));
  }

  onClose(listener: (error?: Error) => void): () => void {
    this.#closeListeners.add(listener);
    return () => this.#closeListeners.delete(listener);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#session.close();
    for (const listener of [...this.#closeListeners]) listener();
    await Promise.resolve();
  }

  #check(operation: string): void {
    if (this.#closed) throw new XenError(Errno.ENOTCONN, operation);
  }

  async #port(operation: string, call: () => number): Promise<EvtchnPort> {
    this.#check(operation);
    return Promise.resolve(portOrThrow(call(), operation));
  }
}
