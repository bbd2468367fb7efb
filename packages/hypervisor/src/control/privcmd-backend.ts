/**
 * The hypervisor as Domain-0's tools reach it: the synchronous backend behind the privcmd server. Takes the hypervisor
 * lock for each step; runs on the control plane.
 */
import { Errno } from '@xenhost/base';
import type { Domid, EvtchnPort } from '@xenhost/base';
import { runSteps } from '@xenhost/privcmd';
import type {
  Arena,
  ConnectionId,
  EventSink,
  MemoryOp,
  MemoryResult,
  PrivcmdBackend,
  RemotePage,
  StepPages,
} from '@xenhost/privcmd';
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

/** What is done with a page. */
interface PageAccess {
  readonly offset: number;
  readonly length: number;
  readonly write: boolean;
}

/** Of a machine; no pCPU's thread has one, nor the modules it needs. */
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
    return this.#locked((dom0) => runSteps(ops, this.#pages(dom0)));
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

  #pages(dom0: DomainRef): StepPages {
    const { core, events, memory } = this.#m;
    const { u8 } = core.memory;
    return {
      read: ({ page, offset }, target) =>
        this.#withFrame(dom0, page, { offset, length: target.length, write: false }, (mfn) => {
          const at = mfn * PAGE_SIZE + offset;
          target.set(u8.subarray(at, at + target.length));
        }),
      write: ({ page, offset }, data) =>
        this.#withFrame(dom0, page, { offset, length: data.length, write: true }, (mfn) => {
          u8.set(data, mfn * PAGE_SIZE + offset);
          memory.frameWritten(mfn);
        }),
      notify: (port) => events.send(dom0, port),
    };
  }

  #withFrame(dom0: DomainRef, page: RemotePage, access: PageAccess, body: (mfn: number) => void): number {
    if (page.domid === DOMID.XEN) return this.#withXenFrame(page, access, body);
    const domain = this.#m.lifecycle.lookup(page.domid);
    if (!domain) return -Errno.ESRCH;
    if (page.space === 'grant') return this.#withGranted(dom0, domain, page.gref, access, body);
    const mfn = this.#m.memory.foreignFrame(domain, page.gfn, access.write);
    if (mfn < 0) return mfn;
    body(mfn);
    return 0;
  }

  /** Of Xen's own frames tools may map the trace buffers. */
  #withXenFrame(page: RemotePage, access: PageAccess, body: (mfn: number) => void): number {
    if (page.space !== 'foreign' || !this.#m.traces.maps(page.gfn, access.write)) return -Errno.EINVAL;
    body(page.gfn);
    return 0;
  }

  #withGranted(
    dom0: DomainRef,
    granter: DomainRef,
    gref: number,
    { offset, length, write }: PageAccess,
    body: (mfn: number) => void,
  ): number {
    const access = this.#m.grants.openAccess(granter, dom0, gref, write);
    if (access.kind === 'refused') return -Errno.EACCES;
    const inside = offset >= access.offset && offset + length <= access.offset + access.length;
    if (inside) body(access.mfn);
    this.#m.grants.closeAccess(granter, gref, write);
    return inside ? 0 : -Errno.EINVAL;
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
