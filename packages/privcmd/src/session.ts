/**
 * One connection's rights and ports, whatever carries its requests: the socket (`serve.ts`) and the in-process port
 * (`local.ts`) are both made of this. Owns which session gets the events of which port of Domain-0. Not the framing.
 */
import { Errno, evtchnPort, XenError } from '@xenhost/base';
import type { Domid, EvtchnPort } from '@xenhost/base';
import { Hypercall } from '@xenhost/xen-abi';
import { MAX_EVENT_READ_BYTES, MAX_EVENT_READS, MEMORY_SLICE_OPS, PAGE_BYTES } from './limits.ts';
import type { MemoryOp, MemoryResult, PagePlace, PageRange, Restriction } from './port.ts';
import type { RaisedPort } from './protocol/messages.ts';
import type { Arena, ConnectionId, PrivcmdBackend, PrivcmdLimits, PrivcmdServerEvent } from './server.ts';
import { CANCELLED, EVENT_INDEX_BYTES } from './steps.ts';

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** All sessions over one backend. */
export class SessionHub {
  readonly backend: PrivcmdBackend;
  readonly limits: PrivcmdLimits;
  readonly log: (event: PrivcmdServerEvent) => void;
  readonly #owners = new Map<EvtchnPort, Session>();
  /** Ports raised while they were being bound: nobody owns them yet. */
  readonly #early = new Set<EvtchnPort>();
  #nextId: ConnectionId = 1;

  constructor(
    options: { readonly limits: PrivcmdLimits; readonly log?: ((event: PrivcmdServerEvent) => void) | undefined },
    backend: PrivcmdBackend,
  ) {
    this.limits = options.limits;
    this.log = options.log ?? (() => undefined);
    this.backend = backend;
    backend.setEventSink((port) => {
      const owner = this.#owners.get(port);
      if (owner) owner.raise(port);
      else this.#early.add(port);
    });
  }

  /** `onEvents` is called once for the ports that are raised in one turn. */
  open(onEvents: (ports: readonly EvtchnPort[]) => void): Session {
    return new Session(this, this.#nextId++, onEvents);
  }

  /** Runs a binding call of the backend; the port belongs to `session` from then on. */
  bind(session: Session, call: () => number): number {
    this.#early.clear();
    const port = call();
    if (port <= 0) return port;
    this.#owners.set(evtchnPort(port), session);
    // In a turn of its own: the caller has its answer first.
    if (this.#early.has(evtchnPort(port))) {
      setImmediate(() => {
        session.raise(evtchnPort(port));
      });
    }
    return port;
  }

  disown(port: EvtchnPort): void {
    this.#owners.delete(port);
  }
}

/** `errno` as a hypercall would answer it. */
const failed = (errno: number): bigint => BigInt(-errno);

export class Session {
  readonly id: ConnectionId;
  readonly #hub: SessionHub;
  readonly #onEvents: (ports: readonly EvtchnPort[]) => void;
  /** What is bound, and what is read for its events. */
  readonly #ports = new Map<EvtchnPort, readonly MemoryOp[]>();
  readonly #raised = new Set<EvtchnPort>();
  #flushing = false;
  #restriction: Restriction | undefined;
  #closed = false;

  constructor(hub: SessionHub, id: ConnectionId, onEvents: (ports: readonly EvtchnPort[]) => void) {
    this.#hub = hub;
    this.id = id;
    this.#onEvents = onEvents;
  }

  raise(port: EvtchnPort): void {
    this.#raised.add(port);
    if (this.#flushing) return;
    this.#flushing = true;
    queueMicrotask(() => {
      this.#flushing = false;
      if (this.#closed || this.#raised.size === 0) return;
      const ports = [...this.#raised];
      this.#raised.clear();
      this.#onEvents(ports);
    });
  }

  /** What comes with the event of a port, now. */
  withReads(port: EvtchnPort): RaisedPort {
    const reads = this.#ports.get(port);
    return reads && reads.length > 0 ? { port, reads: this.#memorySlice(reads) } : { port };
  }

  /** 0 or -errno. */
  readOnEvent(port: EvtchnPort, reads: readonly PageRange[]): number {
    if (!this.#ports.has(port)) return -Errno.ENOTCONN;
    const ops = reads.map((read): MemoryOp => ({ kind: 'read', ...read }));
    for (const op of ops) {
      const refused = this.#refusal(op);
      if (refused !== 0) return refused;
    }
    const bytes = reads.reduce((sum, { length }) => sum + length, 0);
    if (reads.length > MAX_EVENT_READS || bytes > MAX_EVENT_READ_BYTES) return -Errno.E2BIG;
    this.#ports.set(port, ops);
    return 0;
  }

  /** RAX, signed. Continuations are repeated with other connections served in between; ends early when closed. */
  async hypercall(op: number, args: readonly bigint[], memory: Arena): Promise<bigint> {
    const rewritten = Array.from({ length: 6 }, (_, i) => BigInt.asUintN(64, args[i] ?? 0n));
    if (!this.#mayCall(op, rewritten)) return failed(Errno.EPERM);
    for (;;) {
      const result = this.#guard('hypercall', failed(Errno.EIO), () =>
        this.#hub.backend.hypercall(this.id, op, rewritten, memory),
      );
      if (result !== 'continue') return BigInt.asIntN(64, BigInt(result));
      await nextTurn();
      if (this.#closed) return failed(Errno.EINTR);
    }
  }

  /** One result for each step; long batches run in slices. */
  async memory(ops: readonly MemoryOp[]): Promise<readonly MemoryResult[]> {
    if (ops.length <= MEMORY_SLICE_OPS) return this.#memorySlice(ops);
    const results: MemoryResult[] = [];
    for (let at = 0; at < ops.length && !this.#closed; at += MEMORY_SLICE_OPS) {
      if (at > 0) await nextTurn();
      const failed = results.some(({ status }) => status !== 0);
      for (const result of this.#memorySlice(ops.slice(at, at + MEMORY_SLICE_OPS), failed)) results.push(result);
      const tripped = ops.findIndex(({ kind }, i) => kind === 'check' && i >= at && results[i]?.status !== 0);
      if (tripped >= 0 && tripped < results.length) return ops.map((_, i) => results[i] ?? CANCELLED);
    }
    return results;
  }

  /** The port or -errno, as all below. */
  bindUnbound(remote: Domid): number {
    return this.#bind(remote, (backend) => backend.bindUnbound(this.id, remote));
  }

  bindInterdomain(remote: Domid, remotePort: EvtchnPort): number {
    return this.#bind(remote, (backend) => backend.bindInterdomain(this.id, remote, remotePort));
  }

  bindVirq(virq: number): number {
    return this.#bind(undefined, (backend) => backend.bindVirq(this.id, virq));
  }

  notify(port: EvtchnPort): number {
    if (!this.#ports.has(port)) return -Errno.ENOTCONN;
    return this.#guard('notify', -Errno.EIO, () => this.#hub.backend.notify(this.id, port));
  }

  unbind(port: EvtchnPort): number {
    if (!this.#ports.delete(port)) return -Errno.ENOTCONN;
    this.#raised.delete(port);
    this.#hub.disown(port);
    return this.#guard('unbind', -Errno.EIO, () => this.#hub.backend.unbind(this.id, port));
  }

  restrict(restriction: Restriction): number {
    const now = this.#restriction;
    const same = now && JSON.stringify(now) === JSON.stringify(restriction);
    if (now && !same) return -Errno.EPERM;
    this.#restriction = restriction;
    return 0;
  }

  /** Unbinds what is bound; idempotent. */
  close(): void {
    if (this.#closed) return;
    for (const port of [...this.#ports.keys()]) this.unbind(port);
    this.#closed = true;
    this.#guard('connectionClosed', undefined, () => {
      this.#hub.backend.connectionClosed(this.id);
    });
  }

  #guard<T>(request: string, onError: T, call: () => T): T {
    try {
      return call();
    } catch (error) {
      this.#hub.log({ kind: 'backendError', connection: this.id, request, error });
      return onError;
    }
  }

  #bind(remote: Domid | undefined, call: (backend: PrivcmdBackend) => number): number {
    if (this.#closed) return -Errno.EINTR;
    if (this.#ports.size >= this.#hub.limits.maxBoundPorts) return -Errno.ENOSPC;
    const r = this.#restriction;
    if (r && remote === undefined) return -Errno.EPERM;
    if (r?.kind === 'domain' && remote !== r.domid) return -Errno.EPERM;
    const port = this.#hub.bind(this, () => this.#guard('bind', -Errno.EIO, () => call(this.#hub.backend)));
    if (port > 0) this.#ports.set(evtchnPort(port), []);
    return port;
  }

  /** What real privcmd leaves to a restricted handle: device model operations on its own domain. */
  #mayCall(op: number, args: readonly bigint[]): boolean {
    const r = this.#restriction;
    if (!r || op === Hypercall.xen_version) return true;
    return r.kind === 'domain' && op === Hypercall.dm_op && args[0] === BigInt(r.domid);
  }

  #refusal(op: MemoryOp): number {
    switch (op.kind) {
      case 'notify':
        if (!this.#ports.has(op.port)) return -Errno.ENOTCONN;
        return op.push ? this.#pushRefusal(op.push) : 0;
      case 'copy':
        return this.#rangeRefusal(op.from, op.length) || this.#rangeRefusal(op.to, op.length);
      case 'read':
        return this.#rangeRefusal(op, op.length);
      case 'write':
        return this.#rangeRefusal(op, op.data.length);
      case 'check':
        return 0;
    }
  }

  #pushRefusal(push: PagePlace): number {
    return push.offset % EVENT_INDEX_BYTES === 0 ? this.#rangeRefusal(push, EVENT_INDEX_BYTES) : -Errno.EINVAL;
  }

  #rangeRefusal({ page, offset }: PagePlace, length: number): number {
    if (!(Number.isInteger(offset) && Number.isInteger(length) && offset >= 0 && length >= 0)) return -Errno.EINVAL;
    if (offset + length > PAGE_BYTES) return -Errno.EINVAL;
    const r = this.#restriction;
    if (r?.kind === 'domain' && page.domid !== r.domid) return -Errno.EPERM;
    if (r?.kind === 'backend' && page.space === 'foreign') return -Errno.EPERM;
    return 0;
  }

  /** `failed`: a step of an earlier slice did. */
  #memorySlice(ops: readonly MemoryOp[], failed = false): readonly MemoryResult[] {
    const refusals = ops.map((op) => this.#refusal(op));
    const refused = failed ? 0 : refusals.findIndex((status) => status !== 0);
    // The backend does not see what was refused: its checks would find nothing amiss.
    const check = refused < 0 ? -1 : ops.findIndex(({ kind }, i) => kind === 'check' && i >= refused);
    if (check >= 0) return [...this.#memorySlice(ops.slice(0, check)), ...ops.slice(check).map(() => CANCELLED)];
    const allowed = refusals.every((status) => status === 0) ? ops : ops.filter((_, i) => refusals[i] === 0);
    const broken = (): MemoryResult[] => allowed.map(() => ({ status: -Errno.EIO }));
    const results = this.#guard('memory', undefined, () => this.#hub.backend.memory(this.id, allowed)) ?? broken();
    if (allowed === ops) return results;
    let next = 0;
    return refusals.map((status) => (status === 0 ? (results[next++] ?? { status: -Errno.EIO }) : { status }));
  }
}

/** Turns a port or -errno into a port. @throws XenError */
export function portOrThrow(result: number, operation: string): EvtchnPort {
  if (result < 0) throw new XenError(-result, operation);
  return evtchnPort(result);
}
