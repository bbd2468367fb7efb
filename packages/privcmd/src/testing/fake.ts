/**
 * A backend without a hypervisor, for tests: frames, grants and event channels of made-up guests, hypercalls answered by
 * handlers of the test's own and recorded. Runs the compliance suite as every implementation does.
 */
import { Errno, evtchnPort } from '@xenhost/base';
import type { Domid, EvtchnPort, GrantRef } from '@xenhost/base';
import { Hypercall } from '@xenhost/xen-abi';
import type { MemoryOp, MemoryResult, RemotePage } from '../port.ts';
import type { Arena, ConnectionId, EventSink, PrivcmdBackend } from '../server.ts';
import { runSteps } from '../steps.ts';

export interface FakeCall {
  readonly connection: ConnectionId;
  readonly args: bigint[];
  readonly memory: Arena;
}
export type FakeHandler = (call: FakeCall) => bigint | number | 'continue';

interface FakeGrant {
  readonly gfn: number;
  readonly readonly: boolean;
}

interface FakeGuest {
  readonly frames: Map<number, Uint8Array>;
  readonly grants: Map<number, FakeGrant>;
  /** Guest port to Domain-0 port; 0 while unbound. */
  readonly ports: Map<EvtchnPort, EvtchnPort>;
  /** Guest ports that were raised. */
  readonly received: Set<EvtchnPort>;
}

interface Dom0Port {
  readonly connection: ConnectionId;
  readonly remote?: Domid;
  remotePort?: EvtchnPort;
  readonly virq?: number;
}

export class FakeBackend implements PrivcmdBackend {
  readonly handlers = new Map<number, FakeHandler>();
  /** Hypercalls in order: number and arguments at entry. */
  readonly calls: { readonly op: number; readonly args: readonly bigint[] }[] = [];
  readonly closed: ConnectionId[] = [];
  readonly guests = new Map<number, FakeGuest>();
  readonly #ports = new Map<EvtchnPort, Dom0Port>();
  #sink: EventSink = () => undefined;
  #nextPort = 1;

  constructor() {
    this.handlers.set(Hypercall.xen_version, ({ args, memory }) => {
      if (args[0] === 0n) return (4 << 16) | 17;
      if (args[0] !== 1n) return -Errno.ENOSYS;
      const extra = new Uint8Array(16);
      extra.set(new TextEncoder().encode('.fake'));
      return memory.write(args[1] ?? 0n, extra) ? 0 : -Errno.EFAULT;
    });
  }

  /* what a test does in place of a guest */

  addGuest(domid: Domid): FakeGuest {
    const guest: FakeGuest = { frames: new Map(), grants: new Map(), ports: new Map(), received: new Set() };
    this.guests.set(domid, guest);
    return guest;
  }

  /** The guest offers a port to Domain-0. */
  guestOffer(domid: Domid): EvtchnPort {
    const guest = this.#guest(domid);
    const port = evtchnPort(guest.ports.size + 1);
    guest.ports.set(port, evtchnPort(0));
    return port;
  }

  /** The guest binds a port that Domain-0 offers. */
  guestBind(domid: Domid, dom0Port: EvtchnPort): EvtchnPort | undefined {
    const port = this.#ports.get(dom0Port);
    if (port?.remote !== domid || port.remotePort !== undefined) return undefined;
    const own = this.guestOffer(domid);
    this.#guest(domid).ports.set(own, dom0Port);
    port.remotePort = own;
    return own;
  }

  guestSend(domid: Domid, port: EvtchnPort): void {
    const dom0Port = this.#guest(domid).ports.get(port);
    if (dom0Port) this.#sink(dom0Port);
  }

  raiseVirq(virq: number): void {
    for (const [port, { virq: bound }] of this.#ports) if (bound === virq) this.#sink(port);
  }

  get boundPorts(): number {
    return this.#ports.size;
  }

  /* the backend */

  setEventSink(sink: EventSink): void {
    this.#sink = sink;
  }

  hypercall(connection: ConnectionId, op: number, args: bigint[], memory: Arena): bigint | number | 'continue' {
    this.calls.push({ op, args: [...args] });
    return this.handlers.get(op)?.({ connection, args, memory }) ?? -Errno.ENOSYS;
  }

  memory(connection: ConnectionId, ops: readonly MemoryOp[]): readonly MemoryResult[] {
    return runSteps(ops, {
      read: ({ page, offset }, target) => {
        const frame = this.#page(page, false);
        if (typeof frame === 'number') return frame;
        target.set(frame.subarray(offset, offset + target.length));
        return 0;
      },
      write: ({ page, offset }, data) => {
        const frame = this.#page(page, true);
        if (typeof frame === 'number') return frame;
        frame.set(data, offset);
        return 0;
      },
      notify: (port) => this.notify(connection, port),
    });
  }

  bindUnbound(connection: ConnectionId, remote: Domid): number {
    return this.#allocate({ connection, remote }); // as in Xen, whether `remote` exists is not asked
  }

  bindInterdomain(connection: ConnectionId, remote: Domid, remotePort: EvtchnPort): number {
    const guest = this.guests.get(remote);
    if (!guest) return -Errno.ESRCH;
    if (guest.ports.get(remotePort) !== 0) return -Errno.EINVAL;
    const port = this.#allocate({ connection, remote, remotePort });
    guest.ports.set(remotePort, port);
    this.#sink(port); // a new channel starts pending, as in Xen
    return port;
  }

  bindVirq(connection: ConnectionId, virq: number): number {
    for (const { virq: bound } of this.#ports.values()) if (bound === virq) return -Errno.EEXIST;
    return this.#allocate({ connection, virq });
  }

  notify(_connection: ConnectionId, port: EvtchnPort): number {
    const bound = this.#ports.get(port);
    if (!bound) return -Errno.EINVAL;
    if (bound.remote !== undefined && bound.remotePort !== undefined) {
      this.guests.get(bound.remote)?.received.add(bound.remotePort);
    }
    return 0;
  }

  unbind(_connection: ConnectionId, port: EvtchnPort): number {
    const bound = this.#ports.get(port);
    if (!bound) return -Errno.EINVAL;
    this.#ports.delete(port);
    if (bound.remote !== undefined && bound.remotePort !== undefined) {
      this.guests.get(bound.remote)?.ports.set(bound.remotePort, evtchnPort(0));
    }
    return 0;
  }

  connectionClosed(connection: ConnectionId): void {
    this.closed.push(connection);
  }

  #allocate(port: Dom0Port): EvtchnPort {
    const number = evtchnPort(this.#nextPort++);
    this.#ports.set(number, port);
    return number;
  }

  #guest(domid: Domid): FakeGuest {
    const guest = this.guests.get(domid);
    if (!guest) throw new Error(`the test has made no guest ${domid}`);
    return guest;
  }

  #page(page: RemotePage, writing: boolean): Uint8Array | number {
    const guest = this.guests.get(page.domid);
    if (!guest) return -Errno.ESRCH;
    if (page.space === 'foreign') return guest.frames.get(page.gfn) ?? -Errno.EINVAL;
    const grant = guest.grants.get(page.gref);
    if (!grant) return -Errno.EINVAL;
    if (writing && grant.readonly) return -Errno.EACCES;
    return guest.frames.get(grant.gfn) ?? -Errno.EINVAL;
  }
}

/** Grants a frame to Domain-0. */
export function fakeGrant(guest: FakeGuest, gref: GrantRef, gfn: number, readonly = false): void {
  guest.grants.set(gref, { gfn, readonly });
}
