import { Errno, domid, evtchnPort } from '@xenhost/base';
import {
  EVTCHNOP,
  EVTCHNSTAT,
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
import { DomainFlag, VcpuFlag, VcpuLayout } from '../state/records.ts';
import type { DomainRef } from '../state/refs.ts';
import { FakeHost } from './fake-host.test-kit.ts';

const host = () => {
  const h = new FakeHost();
  const dom0 = h.addDomain(0, 0, 32767);
  const a = h.addDomain(1, 2);
  const b = h.addDomain(2, 1);
  return { h, dom0, a, b };
};
type Setup = ReturnType<typeof host>;

const unbound = (h: FakeHost, domain: DomainRef, remote: number): number => {
  const arg = EvtchnAllocUnbound.create({ dom: 0x7ff0, remote_dom: remote });
  expect(h.op(domain, EVTCHNOP.alloc_unbound, arg.bytes)).toBe(0);
  return arg.view.port;
};
const connect = (h: FakeHost, from: DomainRef, to: DomainRef): { local: number; remote: number } => {
  const remote = unbound(h, to, from.domid);
  const arg = EvtchnBindInterdomain.create({ remote_dom: to.domid, remote_port: remote });
  expect(h.op(from, EVTCHNOP.bind_interdomain, arg.bytes)).toBe(0);
  return { local: arg.view.local_port, remote };
};
const status = (h: FakeHost, domain: DomainRef, port: number) => {
  const arg = EvtchnStatus.create({ dom: 0x7ff0, port });
  expect(h.op(domain, EVTCHNOP.status, arg.bytes)).toBe(0);
  return arg.view;
};
const sharedByte = (h: FakeHost, domain: DomainRef, offset: number): number =>
  h.memory.u8[domain.v.sharedInfoMfn * 4096 + offset] ?? -1;
const maskPort = (h: FakeHost, domain: DomainRef, port: number): void => {
  h.memory.u8[domain.v.sharedInfoMfn * 4096 + 2560 + (port >> 3)]! |= 1 << (port & 7);
};

/** One operation with an argument that must be refused. */
const refusals: readonly [string, number, (s: Setup) => Uint8Array | undefined, number, (s: Setup) => DomainRef][] = [
  ['unknown operation', 14, () => new Uint8Array(64), -Errno.ENOSYS, (s) => s.a],
  ['unreadable argument', EVTCHNOP.send, () => undefined, -Errno.EFAULT, (s) => s.a],
  ['send on a free port', EVTCHNOP.send, () => EvtchnPortOnly.create({ port: 5 }).bytes, -Errno.EINVAL, (s) => s.a],
  ['send on port 0', EVTCHNOP.send, () => EvtchnPortOnly.create({ port: 0 }).bytes, -Errno.EINVAL, (s) => s.a],
  ['send far beyond', EVTCHNOP.send, () => EvtchnPortOnly.create({ port: 0xffffffff }).bytes, -Errno.EINVAL, (s) => s.a],
  ['close of a free port', EVTCHNOP.close, () => EvtchnPortOnly.create({ port: 9 }).bytes, -Errno.EINVAL, (s) => s.a],
  ['close of port 0', EVTCHNOP.close, () => EvtchnPortOnly.create({ port: 0 }).bytes, -Errno.EINVAL, (s) => s.a],
  ['unmask far beyond', EVTCHNOP.unmask, () => EvtchnPortOnly.create({ port: 4095 }).bytes, -Errno.EINVAL, (s) => s.a],
  ['alloc for another domain', EVTCHNOP.alloc_unbound, () => EvtchnAllocUnbound.create({ dom: 2, remote_dom: 0 }).bytes, -Errno.EPERM, (s) => s.a],
  ['alloc for no domain', EVTCHNOP.alloc_unbound, () => EvtchnAllocUnbound.create({ dom: 77, remote_dom: 0 }).bytes, -Errno.ESRCH, (s) => s.dom0],
  ['bind to no domain', EVTCHNOP.bind_interdomain, () => EvtchnBindInterdomain.create({ remote_dom: 77, remote_port: 1 }).bytes, -Errno.ESRCH, (s) => s.a],
  ['bind to a free port', EVTCHNOP.bind_interdomain, () => EvtchnBindInterdomain.create({ remote_dom: 2, remote_port: 1 }).bytes, -Errno.EINVAL, (s) => s.a],
  ["bind to another's port", EVTCHNOP.bind_interdomain, (s) => EvtchnBindInterdomain.create({ remote_dom: 2, remote_port: unbound(s.h, s.b, 0) }).bytes, -Errno.EINVAL, (s) => s.a],
  ['virq out of range', EVTCHNOP.bind_virq, () => EvtchnBindVirq.create({ virq: 24, vcpu: 0 }).bytes, -Errno.EINVAL, (s) => s.a],
  ['global virq off vCPU 0', EVTCHNOP.bind_virq, () => EvtchnBindVirq.create({ virq: 2, vcpu: 1 }).bytes, -Errno.EINVAL, (s) => s.a],
  ['virq of no vCPU', EVTCHNOP.bind_virq, () => EvtchnBindVirq.create({ virq: 0, vcpu: 7 }).bytes, -Errno.ENOENT, (s) => s.a],
  ['ipi of no vCPU', EVTCHNOP.bind_ipi, () => EvtchnBindIpi.create({ vcpu: 2 }).bytes, -Errno.ENOENT, (s) => s.a],
  ['pirq without rights', EVTCHNOP.bind_pirq, () => EvtchnBindPirq.create({ pirq: 9 }).bytes, -Errno.EPERM, (s) => s.a],
  ['pirq out of range', EVTCHNOP.bind_pirq, () => EvtchnBindPirq.create({ pirq: 5000 }).bytes, -Errno.EINVAL, (s) => s.a],
  ['bind_vcpu to none', EVTCHNOP.bind_vcpu, () => EvtchnBindVcpu.create({ port: 1, vcpu: 9 }).bytes, -Errno.ENOENT, (s) => s.a],
  ['bind_vcpu of a free port', EVTCHNOP.bind_vcpu, () => EvtchnBindVcpu.create({ port: 1, vcpu: 1 }).bytes, -Errno.EINVAL, (s) => s.a],
  ['bind_vcpu of an ipi', EVTCHNOP.bind_vcpu, (s) => { s.h.op(s.a, EVTCHNOP.bind_ipi, EvtchnBindIpi.create({ vcpu: 0 }).bytes); return EvtchnBindVcpu.create({ port: 1, vcpu: 1 }).bytes; }, -Errno.EINVAL, (s) => s.a],
  ['set_priority on 2-level', EVTCHNOP.set_priority, (s) => EvtchnSetPriority.create({ port: unbound(s.h, s.a, 0), priority: 1 }).bytes, -Errno.ENOSYS, (s) => s.a],
  ['expand_array on 2-level', EVTCHNOP.expand_array, () => EvtchnExpandArray.create({ array_gfn: 50n }).bytes, -Errno.EOPNOTSUPP, (s) => s.a],
  ['init_control of no vCPU', EVTCHNOP.init_control, () => EvtchnInitControl.create({ control_gfn: 50n, vcpu: 5 }).bytes, -Errno.ENOENT, (s) => s.a],
  ['init_control across a page', EVTCHNOP.init_control, () => EvtchnInitControl.create({ control_gfn: 50n, offset: 4032 }).bytes, -Errno.EINVAL, (s) => s.a],
  ['init_control unaligned', EVTCHNOP.init_control, () => EvtchnInitControl.create({ control_gfn: 50n, offset: 4 }).bytes, -Errno.EINVAL, (s) => s.a],
  ['init_control of a bad frame', EVTCHNOP.init_control, () => EvtchnInitControl.create({ control_gfn: 1n << 60n }).bytes, -Errno.EINVAL, (s) => s.a],
  ['status of another domain', EVTCHNOP.status, () => EvtchnStatus.create({ dom: 2, port: 1 }).bytes, -Errno.EPERM, (s) => s.a],
  ['reset of a running domain', EVTCHNOP.reset, () => EvtchnReset.create({ dom: 1 }).bytes, -Errno.EINVAL, (s) => s.dom0],
]; // prettier-ignore

test.each(refusals)('refuses: %s', (_name, cmd, argument, errno, caller) => {
  const s = host();
  const bytes = argument(s);
  expect(s.h.op(caller(s), cmd, bytes)).toBe(errno);
});

test('an answer that cannot be written is -EFAULT', () => {
  const { h, a } = host();
  expect(h.op(a, EVTCHNOP.bind_ipi, EvtchnBindIpi.create({ vcpu: 0 }).bytes, false)).toBe(-Errno.EFAULT);
});

test('an interdomain channel: both ends, one event at binding, sends both ways, peer unbound after close', () => {
  const { h, a, b } = host();
  const { local, remote } = connect(h, a, b);
  expect(status(h, a, local)).toMatchObject({ status: EVTCHNSTAT.interdomain, detail: 2, remote_port: remote });
  expect(status(h, b, remote)).toMatchObject({ status: EVTCHNSTAT.interdomain, detail: 1, remote_port: local });
  expect(h.kicked).toEqual(['d1v0']);
  expect(h.events.isPending(a, evtchnPort(local))).toBe(true);
  expect(h.events.send(a, evtchnPort(local))).toBe(0);
  expect(h.kicked).toEqual(['d1v0', 'd2v0']);
  expect(h.events.send(a, evtchnPort(local))).toBe(0);
  expect(h.kicked).toHaveLength(2);
  expect(h.events.close(a, evtchnPort(local))).toBe(0);
  expect(status(h, b, remote)).toMatchObject({ status: EVTCHNSTAT.unbound, detail: 1 });
  expect(h.events.send(b, evtchnPort(remote))).toBe(0);
  expect(status(h, a, local)).toMatchObject({ status: EVTCHNSTAT.closed });
  expect(h.events.isPending(a, evtchnPort(local))).toBe(false);
});

test('2-level delivery sets pending, selector and upcall of the bound vCPU; a mask holds it back until unmask', () => {
  const { h, a, b } = host();
  const { local, remote } = connect(h, b, a);
  expect(h.op(a, EVTCHNOP.bind_vcpu, EvtchnBindVcpu.create({ port: remote, vcpu: 1 }).bytes)).toBe(0);
  h.kicked.length = 0;
  maskPort(h, a, remote);
  h.events.send(b, evtchnPort(local));
  expect(sharedByte(h, a, 2048) & (1 << remote)).not.toBe(0);
  expect(h.kicked).toEqual([]);
  const vcpu = h.vcpu(a, 1)!;
  expect(h.events.hasDeliverable(vcpu)).toBe(false);
  expect(h.op(a, EVTCHNOP.unmask, EvtchnPortOnly.create({ port: remote }).bytes)).toBe(0);
  expect(h.kicked).toEqual(['d1v1']);
  expect(sharedByte(h, a, 64)).toBe(1);
  expect(sharedByte(h, a, 64 + 8)).toBe(1);
  expect(h.events.hasDeliverable(vcpu)).toBe(true);
  h.events.setUpcallMask(vcpu, true);
  expect(h.events.hasDeliverable(vcpu)).toBe(false);
});

test('32-bit guests have their mask and selector elsewhere, and 1024 ports', () => {
  const { h } = host();
  const c = h.addDomain(3, 1, 0x7fffffff);
  c.v.flags |= DomainFlag.pv32;
  let port = 0;
  for (let i = 0; i < 1023; i++) port = h.events.allocUnbound(c, domid(0));
  expect(port).toBe(1023);
  expect(h.events.allocUnbound(c, domid(0))).toBe(-Errno.ENOSPC);
  expect(h.events.close(c, evtchnPort(40))).toBe(0);
  expect(h.op(c, EVTCHNOP.bind_ipi, EvtchnBindIpi.create({ vcpu: 0 }).bytes)).toBe(0);
  h.events.send(c, evtchnPort(40));
  expect(sharedByte(h, c, 4)).toBe(1 << 1);
  expect(sharedByte(h, c, 0)).toBe(1);
});

test('virtual interrupts: bound once per vCPU, delivered to their vCPU, free again after close', () => {
  const { h, a } = host();
  const bind = (virq: number, vcpu: number): number =>
    h.op(a, EVTCHNOP.bind_virq, EvtchnBindVirq.create({ virq, vcpu }).bytes);
  expect([bind(0, 0), bind(0, 1), bind(0, 1), bind(2, 0), bind(2, 0)]).toEqual([0, 0, -Errno.EEXIST, 0, -Errno.EEXIST]);
  h.events.raiseVirq(h.vcpu(a, 1)!, 0);
  expect(h.kicked).toEqual(['d1v1']);
  h.events.raiseGlobalVirq(a, 2);
  h.events.raiseGlobalVirq(a, 3);
  expect(h.kicked).toEqual(['d1v1', 'd1v0']);
  expect(status(h, a, 2)).toMatchObject({ status: EVTCHNSTAT.virq, vcpu: 1, detail: 0 });
  expect(h.events.close(a, evtchnPort(2))).toBe(0);
  h.kicked.length = 0;
  h.events.raiseVirq(h.vcpu(a, 1)!, 0);
  expect(h.kicked).toEqual([]);
  expect(bind(0, 1)).toBe(0);
});

test.each([
  ['the limit of the toolstack', 1023, 1023],
  ['the limit of the 2-level ABI', 0x7fffffff, 4095],
])('fills %s, then -ENOSPC; a closed port is given out again (XSA-317)', (_name, limit, ports) => {
  const { h } = host();
  const c = h.addDomain(3, 1, limit);
  for (let port = 1; port <= ports; port++) expect(h.events.allocUnbound(c, domid(0))).toBe(port);
  expect(h.events.allocUnbound(c, domid(0))).toBe(-Errno.ENOSPC);
  h.events.close(c, evtchnPort(77));
  expect(h.events.allocUnbound(c, domid(0))).toBe(77);
  expect(h.events.allocUnbound(c, domid(0))).toBe(-Errno.ENOSPC);
});

test('a host without frames answers -ENOMEM', () => {
  const { h, a } = host();
  h.budget = 0;
  const results = Array.from({ length: 129 }, () => h.events.allocUnbound(a, domid(0)));
  expect(results.slice(0, 127).every((port) => port > 0)).toBe(true);
  expect(results.slice(127)).toEqual([-Errno.ENOMEM, -Errno.ENOMEM]);
});

test('polled ports wake a polling vCPU even when masked', () => {
  const { h, a, b } = host();
  const { local, remote } = connect(h, b, a);
  const vcpu = h.vcpu(a, 1)!;
  vcpu.v.flags |= VcpuFlag.polling;
  vcpu.v.pollCount = 1;
  h.memory.u32[(vcpu.address + VcpuLayout.offsets.pollPorts) / 4] = remote;
  maskPort(h, a, remote);
  h.kicked.length = 0;
  h.events.send(b, evtchnPort(local));
  expect(h.kicked).toEqual(['d1v1']);
  expect(h.events.isPending(a, evtchnPort(remote))).toBe(true);
  expect(h.events.isValidPort(a, 5000)).toBe(false);
  expect(h.events.isPending(a, evtchnPort(5000))).toBe(false);
});

test('a newly registered vcpu_info has everything pending', () => {
  const { h, a } = host();
  const vcpu = h.vcpu(a, 1)!;
  vcpu.v.infoMfn = h.frame();
  vcpu.v.infoOffset = 128;
  h.events.vcpuInfoMoved(vcpu);
  const info = vcpu.v.infoMfn * 4096 + 128;
  expect(h.memory.u8[info]).toBe(1);
  expect(h.memory.dv.getBigUint64(info + 8, true)).toBe(0xffff_ffff_ffff_ffffn);
  expect(h.kicked).toEqual(['d1v1']);
});

test('Domain-0 takes its pending ports from a bitmap of its own, rung once', () => {
  const { h, dom0, a } = host();
  const { local, remote } = connect(h, a, dom0);
  expect(h.events.takeDom0Pending()).toEqual([]);
  h.events.send(a, evtchnPort(local));
  h.events.send(a, evtchnPort(local));
  expect(h.rings).toBe(1);
  const virq = h.events.bindVirq(dom0, 3, 0);
  expect(h.events.bindVirq(dom0, 0, 0)).toBe(-Errno.ENOENT);
  h.events.raiseGlobalVirq(dom0, 3);
  expect(h.events.takeDom0Pending()).toEqual([remote, virq]);
  expect(h.events.takeDom0Pending()).toEqual([]);
  expect(h.events.bindInterdomain(dom0, a.domid, evtchnPort(unbound(h, a, 0)))).toBeGreaterThan(0);
  expect(h.events.takeDom0Pending()).toHaveLength(1);
});

test('destruction closes every port, frees the frames and leaves peers unbound', () => {
  const { h, a, b } = host();
  const { local } = connect(h, a, b);
  expect(h.op(b, EVTCHNOP.init_control, EvtchnInitControl.create({ control_gfn: 3000n }).bytes)).toBe(0);
  expect(h.op(b, EVTCHNOP.expand_array, EvtchnExpandArray.create({ array_gfn: 3001n }).bytes)).toBe(0);
  expect(h.held).toEqual([3000, 3001]);
  h.events.destroyDomain(b);
  h.events.destroyDomain(b);
  expect(h.held).toEqual([]);
  expect(status(h, a, local)).toMatchObject({ status: EVTCHNSTAT.unbound, detail: 2 });
  expect(h.events.allocUnbound(b, domid(0))).toBe(-Errno.EINVAL);
});

describe('FIFO', () => {
  const CONTROL = 3000;
  const ARRAY = 3001;
  const word = (h: FakeHost, port: number): number => h.memory.u32[(ARRAY * 4096) / 4 + port]!;
  const setWord = (h: FakeHost, port: number, value: number): void => {
    h.memory.u32[(ARRAY * 4096) / 4 + port] = value;
  };
  const ready = (h: FakeHost): number => h.memory.u32[(CONTROL * 4096) / 4]!;
  const head = (h: FakeHost, priority: number): number => h.memory.u32[(CONTROL * 4096 + 8) / 4 + priority]!;
  const PENDING = 0x80000000;
  const LINKED = 1 << EVTCHN_FIFO.LINKED;
  const fifo = () => {
    const s = host();
    expect(s.h.op(s.a, EVTCHNOP.init_control, EvtchnInitControl.create({ control_gfn: BigInt(CONTROL) }).bytes)).toBe(
      0,
    );
    expect(s.h.op(s.a, EVTCHNOP.expand_array, EvtchnExpandArray.create({ array_gfn: BigInt(ARRAY) }).bytes)).toBe(0);
    const ipi = (): number => {
      const arg = EvtchnBindIpi.create({ vcpu: 0 });
      expect(s.h.op(s.a, EVTCHNOP.bind_ipi, arg.bytes)).toBe(0);
      return arg.view.port;
    };
    return { ...s, ipi, send: (port: number) => s.h.events.send(s.a, evtchnPort(port)) };
  };

  test('init_control answers 17 link bits, takes each vCPU once', () => {
    const { h, a } = host();
    const arg = EvtchnInitControl.create({ control_gfn: BigInt(CONTROL), offset: 4024 });
    expect(h.op(a, EVTCHNOP.init_control, arg.bytes)).toBe(0);
    expect(arg.view.link_bits).toBe(17);
    expect(h.op(a, EVTCHNOP.init_control, arg.bytes)).toBe(-Errno.EINVAL);
    const second = EvtchnInitControl.create({ control_gfn: BigInt(CONTROL), vcpu: 1 });
    expect(h.op(a, EVTCHNOP.init_control, second.bytes)).toBe(0);
  });

  test('a failed init_control leaves the 2-level ABI (XSA-188)', () => {
    const { h, a } = host();
    const bad = EvtchnInitControl.create({ control_gfn: 0n });
    expect(h.op(a, EVTCHNOP.init_control, bad.bytes)).toBe(-Errno.EINVAL);
    expect(h.op(a, EVTCHNOP.expand_array, EvtchnExpandArray.create({ array_gfn: 3001n }).bytes)).toBe(
      -Errno.EOPNOTSUPP,
    );
    expect(a.v.eventFifo).toBe(0);
  });

  test('events queue in order and the upcall is raised when a queue was empty', () => {
    const { h, ipi, send } = fifo();
    const [p, q, r] = [ipi(), ipi(), ipi()];
    send(p);
    send(q);
    send(r);
    expect(head(h, 7)).toBe(p);
    expect(word(h, p)).toBe((PENDING | LINKED | q) >>> 0);
    expect(word(h, q)).toBe((PENDING | LINKED | r) >>> 0);
    expect(word(h, r)).toBe((PENDING | LINKED) >>> 0);
    expect(ready(h)).toBe(1 << 7);
    expect(h.kicked).toEqual(['d1v0']);
    // The guest consumes p, then all: the next event starts a new queue.
    for (const port of [p, q, r]) setWord(h, port, 0);
    h.memory.u32[(CONTROL * 4096) / 4] = 0;
    h.memory.u8[h.vcpu(h.domains.get(1)!, 0)!.v.infoMfn * 4096] = 0;
    send(q);
    expect(head(h, 7)).toBe(q);
    expect(h.kicked).toEqual(['d1v0', 'd1v0']);
  });

  test('a queue whose tail sends again after being consumed starts anew', () => {
    const { h, ipi, send } = fifo();
    const [p, q] = [ipi(), ipi()];
    send(p);
    setWord(h, p, 0);
    send(p);
    expect(head(h, 7)).toBe(p);
    send(q);
    expect(word(h, p) & EVTCHN_FIFO.LINK_MASK).toBe(q);
  });

  test('priorities choose the queue; 16 is refused', () => {
    const { h, a, ipi, send } = fifo();
    const p = ipi();
    const set = (priority: number): number =>
      h.op(a, EVTCHNOP.set_priority, EvtchnSetPriority.create({ port: p, priority }).bytes);
    expect([set(16), set(15), set(0)]).toEqual([-Errno.EINVAL, 0, 0]);
    send(p);
    expect(head(h, 0)).toBe(p);
    expect(ready(h)).toBe(1);
  });

  test('a masked event is only pending; unmask links it', () => {
    const { h, a, ipi, send } = fifo();
    const p = ipi();
    setWord(h, p, 1 << EVTCHN_FIFO.MASKED);
    send(p);
    expect(word(h, p)).toBe((PENDING | (1 << EVTCHN_FIFO.MASKED)) >>> 0);
    expect(h.kicked).toEqual([]);
    expect(h.op(a, EVTCHNOP.unmask, EvtchnPortOnly.create({ port: p }).bytes)).toBe(0);
    expect(head(h, 7)).toBe(p);
    expect(h.kicked).toEqual(['d1v0']);
  });

  test('events before their page are raised when it comes; pending 2-level events survive the switch', () => {
    const { h, a, b } = host();
    const { local, remote } = connect(h, b, a);
    h.events.send(b, evtchnPort(local));
    h.kicked.length = 0;
    h.memory.u8[h.vcpu(a, 0)!.v.infoMfn * 4096] = 0;
    expect(h.op(a, EVTCHNOP.init_control, EvtchnInitControl.create({ control_gfn: BigInt(CONTROL) }).bytes)).toBe(0);
    expect(h.kicked).toEqual([]);
    expect(h.op(a, EVTCHNOP.expand_array, EvtchnExpandArray.create({ array_gfn: BigInt(ARRAY) }).bytes)).toBe(0);
    expect(head(h, 7)).toBe(remote);
    expect(h.kicked).toEqual(['d1v0']);
  });

  test('a closed port that is still linked is not given out again', () => {
    const { h, a, ipi, send } = fifo();
    const [p, q] = [ipi(), ipi()];
    send(p);
    h.events.close(a, evtchnPort(p));
    expect(word(h, p)).toBe(LINKED);
    expect(ipi()).toBe(q + 1);
    setWord(h, p, 0);
    expect(ipi()).toBe(p);
  });

  test('hostile words: any bits in a tail word end in a queue that is consistent for Xen', () => {
    const { h, ipi, send } = fifo();
    const [p, q] = [ipi(), ipi()];
    for (const junk of [0xffffffff, 0x1ffff, LINKED | 0x1ffff, 1 << EVTCHN_FIFO.BUSY]) {
      setWord(h, p, 0);
      send(p);
      setWord(h, p, junk);
      setWord(h, q, 0);
      expect(send(q)).toBe(0);
      expect(word(h, q) & LINKED).toBe(LINKED);
    }
  });

  test('the array ends at 131072 ports', () => {
    const { h, a } = fifo();
    const expand = (): number => h.op(a, EVTCHNOP.expand_array, EvtchnExpandArray.create({ array_gfn: 3002n }).bytes);
    for (let page = 1; page < 128; page++) expect(expand()).toBe(0);
    expect(expand()).toBe(-Errno.ENOSPC);
  });

  test('reset closes everything and goes back to 2-level', () => {
    const { h, a, ipi } = fifo();
    const p = ipi();
    expect(h.op(a, EVTCHNOP.reset, EvtchnReset.create({ dom: 0x7ff0 }).bytes)).toBe(0);
    expect(status(h, a, p).status).toBe(EVTCHNSTAT.closed);
    expect(a.v.eventFifo).toBe(0);
    expect(h.held).toEqual([]);
  });
});
