/** event_channel_op (32): reads the argument structure once, calls the operation, writes the answer back. */
import { Errno, bytesOf, domid, evtchnPort } from '@xenhost/base';
import type { Fields, Layout, View } from '@xenhost/base';
import {
  DOMID,
  EVTCHNOP,
  EVTCHN_FIFO,
  EvtchnAllocUnbound,
  EvtchnBindInterdomain,
  EvtchnBindIpi,
  EvtchnBindPirq,
  EvtchnBindVcpu,
  EvtchnBindVirq,
  EvtchnExpandArray,
  EvtchnInitControl,
  EvtchnPortOnly,
  EvtchnReset,
  EvtchnSetPriority,
  EvtchnStatus,
} from '@xenhost/xen-abi';
import type { HypercallCall, HypercallHandler } from '../hypercall/types.ts';
import { DomainFlag } from '../state/records.ts';
import type { EventChannelTable } from './channels.ts';

type Operation = (call: HypercallCall) => number;

/** An operation on one structure: `body` answers 0 or -errno; the structure is written back when it `answers`. */
function operation<F extends Fields>(
  struct: Layout<F>,
  answers: boolean,
  body: (argument: View<F>, call: HypercallCall) => number,
): Operation {
  return (call) => {
    const address = call.args[1] ?? 0n;
    const bytes = call.memory.read(address, struct.size);
    if (bytes === undefined) return -Errno.EFAULT;
    const status = body(struct.view(bytesOf(bytes), 0), call);
    if (status !== 0 || !answers) return status;
    return call.memory.write(address, bytes) ? 0 : -Errno.EFAULT;
  };
}

/** Stores a port (positive result) in the answer; hands an error on. */
function store(result: number, set: (port: number) => void): number {
  if (result < 0) return result;
  set(result);
  return 0;
}

const isPrivileged = (call: HypercallCall): boolean =>
  call.kind === 'privcmd' || (call.domain.v.flags & DomainFlag.privileged) !== 0;

export function eventChannelOp(table: EventChannelTable): HypercallHandler {
  const operations = new Map<number, Operation>([
    [
      EVTCHNOP.alloc_unbound,
      operation(EvtchnAllocUnbound, true, (a, call) => {
        const target = table.resolve(call.domain, a.dom, isPrivileged(call));
        if (typeof target === 'number') return target;
        const remote = a.remote_dom === DOMID.SELF ? call.domid : domid(a.remote_dom);
        return store(table.allocUnbound(target, remote), (port) => (a.port = port));
      }),
    ],
    [
      EVTCHNOP.bind_interdomain,
      operation(EvtchnBindInterdomain, true, (a, call) => {
        const remote = a.remote_dom === DOMID.SELF ? call.domid : domid(a.remote_dom);
        const bound = table.bindInterdomain(call.domain, remote, evtchnPort(a.remote_port));
        return store(bound, (port) => (a.local_port = port));
      }),
    ],
    [
      EVTCHNOP.bind_virq,
      operation(EvtchnBindVirq, true, (a, call) =>
        store(table.bindVirq(call.domain, a.virq, a.vcpu), (port) => (a.port = port)),
      ),
    ],
    [
      EVTCHNOP.bind_ipi,
      operation(EvtchnBindIpi, true, (a, call) => store(table.bindIpi(call.domain, a.vcpu), (port) => (a.port = port))),
    ],
    [EVTCHNOP.bind_pirq, operation(EvtchnBindPirq, true, (a, call) => table.bindPirq(call.domain, a.pirq))],
    [EVTCHNOP.close, operation(EvtchnPortOnly, false, (a, call) => table.close(call.domain, evtchnPort(a.port)))],
    [EVTCHNOP.send, operation(EvtchnPortOnly, false, (a, call) => table.send(call.domain, evtchnPort(a.port)))],
    [
      EVTCHNOP.status,
      operation(EvtchnStatus, true, (a, call) => {
        const target = table.resolve(call.domain, a.dom, isPrivileged(call));
        if (typeof target === 'number') return target;
        const status = table.status(target, a.port);
        if (typeof status === 'number') return status;
        a.status = status.status;
        a.vcpu = status.vcpu;
        a.detail = status.detail;
        a.remote_port = status.remotePort;
        return 0;
      }),
    ],
    [EVTCHNOP.bind_vcpu, operation(EvtchnBindVcpu, false, (a, call) => table.bindVcpu(call.domain, a.port, a.vcpu))],
    [EVTCHNOP.unmask, operation(EvtchnPortOnly, false, (a, call) => table.unmask(call.domain, a.port))],
    [
      EVTCHNOP.reset,
      operation(EvtchnReset, false, (a, call) => {
        const target = table.resolve(call.domain, a.dom, isPrivileged(call));
        if (typeof target === 'number') return target;
        if (target !== call.domain && target.v.pauseCount === 0) return -Errno.EINVAL;
        return table.resetDomain(target);
      }),
    ],
    [
      EVTCHNOP.init_control,
      operation(EvtchnInitControl, true, (a, call) => {
        a.link_bits = EVTCHN_FIFO.LINK_BITS;
        return table.initControl(call.domain, a.vcpu, a.control_gfn, a.offset);
      }),
    ],
    [
      EVTCHNOP.expand_array,
      operation(EvtchnExpandArray, false, (a, call) => table.expandArray(call.domain, a.array_gfn)),
    ],
    [
      EVTCHNOP.set_priority,
      operation(EvtchnSetPriority, false, (a, call) => table.setPriority(call.domain, a.port, a.priority)),
    ],
  ]);
  return (call) => {
    const run = operations.get(Number(BigInt.asUintN(32, call.args[0] ?? 0n)));
    return run === undefined ? -Errno.ENOSYS : run(call);
  };
}
