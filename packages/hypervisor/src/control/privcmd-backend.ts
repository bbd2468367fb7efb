/**
 * The hypervisor as Domain-0's tools reach it: the synchronous backend behind the privcmd server. Takes the hypervisor
 * lock for each step; runs on the control plane.
 */
import { Errno } from '@xenhost/base';
import type { Domid, EvtchnPort } from '@xenhost/base';
import type { Arena, ConnectionId, EventSink, MemoryOp, MemoryResult, PrivcmdBackend } from '@xenhost/privcmd';
import { DOMID, PAGE_SIZE } from '@xenhost/xen-abi';
import type { Lifecycle } from '../domain/lifecycle.ts';
import type { EventChannels } from '../event/api.ts';
import type { GrantTables } from '../grant/api.ts';
import type { HypercallDispatch } from '../hypercall/dispatch.ts';
import type { MemoryManager } from '../mm/api.ts';
import type { Scheduler } from '../sched/scheduler.ts';
import type { Core } from '../state/core.ts';
import { HeaderLayout } from '../state/records.ts';
import type { DomainRef } from '../state/refs.ts';
import type { TraceBuffers } from '../trace/buffers.ts';
import type { ControlPauses } from './modules.ts';

export interface PrivcmdBackendModules {
  readonly core: Core;
  readonly lifecycle: Lifecycle;
  readonly scheduler: Scheduler;
  readonly events: EventChannels;
  readonly grants: GrantTables;
  readonly memory: MemoryManager;
  readonly dispatch: HypercallDispatch;
  readonly pauses: ControlPauses;
  readonly traces: TraceBuffers;
}

/** Bound of one wait for a vCPU to leave its pCPU; the operation is tried again after it. */
const DESCHEDULE_WAIT_MS = 1;

export class HypervisorBackend implements PrivcmdBackend {
  readonly #m: PrivcmdBackendModules;
  #sink: EventSink = () => undefined;

  constructor(modules: PrivcmdBackendModules) {
    this.#m = modules;
  }

  setEventSink(sink: EventSink): void {
    this.#sink = sink;
  }

  hypercall(_connection: ConnectionId, op: number, args: bigint[], memory: Arena): bigint | 'continue' {
    const { core } = this.#m;
    const descheduled = this.#headerWord(HeaderLayout.offsets.descheduled);
    let seen = 0;
    let waiting: DomainRef | undefined;
    const result = this.#locked((dom0) => {
      const answer = this.#m.dispatch.fromTools(dom0, op, args, memory);
      waiting = this.#m.pauses.takeWaiting();
      if (waiting && this.#m.scheduler.isQuiescent(waiting)) waiting = undefined;
      seen = Atomics.load(core.memory.i32, descheduled);
      return answer;
    });
    if (waiting) Atomics.wait(core.memory.i32, descheduled, seen, DESCHEDULE_WAIT_MS);
    return result;
  }

  memory(_connection: ConnectionId, ops: readonly MemoryOp[]): readonly MemoryResult[] {
    return this.#locked((dom0) => ops.map((op) => this.#memoryOp(dom0, op)));
  }

  bindUnbound(_connection: ConnectionId, remote: Domid): number {
    return this.#locked((dom0) => this.#m.events.allocUnbound(dom0, remote));
  }

  bindInterdomain(_connection: ConnectionId, remote: Domid, remotePort: EvtchnPort): number {
    return this.#locked((dom0) => this.#m.events.bindInterdomain(dom0, remote, remotePort));
  }

  bindVirq(_connection: ConnectionId, virq: number): number {
    return this.#locked((dom0) => this.#m.events.bindVirq(dom0, virq, 0));
  }

  notify(_connection: ConnectionId, port: EvtchnPort): number {
    return this.#locked((dom0) => this.#m.events.send(dom0, port));
  }

  unbind(_connection: ConnectionId, port: EvtchnPort): number {
    return this.#locked((dom0) => this.#m.events.close(dom0, port));
  }

  connectionClosed(): void {
    // The server has unbound its ports; nothing else is held for a connection.
  }

  /** Domain-0's pending ports go to their owners. Called when the doorbell rang. */
  drainEvents(): void {
    Atomics.store(this.#m.core.memory.i32, this.#headerWord(HeaderLayout.offsets.controlDoorbell), 0);
    const ports = this.#locked(() => this.#m.events.takeDom0Pending());
    for (const port of ports) this.#sink(port);
  }

  #memoryOp(dom0: DomainRef, op: MemoryOp): MemoryResult {
    if (op.kind === 'notify') return { status: this.#m.events.send(dom0, op.port) };
    if (op.page.domid === DOMID.XEN) return this.#xenFrame(op);
    const domain = this.#m.lifecycle.lookup(op.page.domid);
    if (!domain) return { status: -Errno.ESRCH };
    return op.page.space === 'foreign'
      ? this.#foreign(domain, op.page.gfn, op)
      : this.#granted(dom0, domain, op.page.gref, op);
  }

  /** Of Xen's own frames tools may map the trace buffers. */
  #xenFrame(op: Exclude<MemoryOp, { kind: 'notify' }>): MemoryResult {
    const { page } = op;
    const mapped = page.space === 'foreign' && this.#m.traces.maps(page.gfn, op.kind === 'write');
    return mapped ? this.#copy(page.gfn, op) : { status: -Errno.EINVAL };
  }

  #foreign(domain: DomainRef, gfn: number, op: Exclude<MemoryOp, { kind: 'notify' }>): MemoryResult {
    const mfn = this.#m.memory.foreignFrame(domain, gfn, op.kind === 'write');
    return mfn < 0 ? { status: mfn } : this.#copy(mfn, op);
  }

  #granted(dom0: DomainRef, domain: DomainRef, gref: number, op: Exclude<MemoryOp, { kind: 'notify' }>): MemoryResult {
    const write = op.kind === 'write';
    const access = this.#m.grants.openAccess(domain, dom0, gref, write);
    if (access.kind === 'refused') return { status: -Errno.EACCES };
    const length = op.kind === 'write' ? op.data.length : op.length;
    const inside = op.offset >= access.offset && op.offset + length <= access.offset + access.length;
    const result = inside ? this.#copy(access.mfn, op) : { status: -Errno.EINVAL };
    this.#m.grants.closeAccess(domain, gref, write);
    return result;
  }

  #copy(mfn: number, op: Exclude<MemoryOp, { kind: 'notify' }>): MemoryResult {
    const { u8 } = this.#m.core.memory;
    const at = mfn * PAGE_SIZE + op.offset;
    if (op.kind === 'read') return { status: 0, data: u8.slice(at, at + op.length) };
    u8.set(op.data, at);
    this.#m.memory.frameWritten(mfn);
    return { status: 0 };
  }

  /** Runs `body` as Domain-0 with the lock held; pCPUs step back for it. */
  #locked<T>(body: (dom0: DomainRef) => T): T {
    const { core, lifecycle } = this.#m;
    const waiting = this.#headerWord(HeaderLayout.offsets.controlWaiting);
    Atomics.store(core.memory.i32, waiting, 1);
    core.lock.acquire();
    Atomics.store(core.memory.i32, waiting, 0);
    Atomics.notify(core.memory.i32, waiting);
    try {
      const dom0 = lifecycle.lookup(0);
      if (!dom0) throw new Error('no Domain-0');
      return body(dom0);
    } finally {
      core.lock.release();
    }
  }

  #headerWord(offset: number): number {
    return (this.#m.core.map.header * PAGE_SIZE + offset) >>> 2;
  }
}
