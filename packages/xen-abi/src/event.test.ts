import type { Fields, Layout } from '@xenhost/base';
import * as event from './event.ts';
import * as traps from './traps.ts';

/** size and offsets as a C compiler lays them out (x86-64). */
const expected: readonly [Layout<Fields>, number, Record<string, number>][] = [
  [event.EvtchnAllocUnbound, 8, { dom: 0, remote_dom: 2, port: 4 }],
  [event.EvtchnBindInterdomain, 12, { remote_dom: 0, remote_port: 4, local_port: 8 }],
  [event.EvtchnBindVirq, 12, { virq: 0, vcpu: 4, port: 8 }],
  [event.EvtchnBindPirq, 12, { pirq: 0, flags: 4, port: 8 }],
  [event.EvtchnBindIpi, 8, { vcpu: 0, port: 4 }],
  [event.EvtchnPortOnly, 4, { port: 0 }],
  [event.EvtchnStatus, 24, { dom: 0, port: 4, status: 8, vcpu: 12, detail: 16, remote_port: 20 }],
  [event.EvtchnBindVcpu, 8, { port: 0, vcpu: 4 }],
  [event.EvtchnReset, 2, { dom: 0 }],
  [event.EvtchnInitControl, 24, { control_gfn: 0, offset: 8, vcpu: 12, link_bits: 16 }],
  [event.EvtchnExpandArray, 8, { array_gfn: 0 }],
  [event.EvtchnSetPriority, 8, { port: 0, priority: 4 }],
  [event.EvtchnFifoControlBlock, 72, { ready: 0, head: 8 }],
  [traps.TrapInfo, 16, { vector: 0, flags: 1, cs: 2, address: 8 }],
  [traps.IretContext, 72, { rax: 0, r11: 8, rcx: 16, flags: 24, rip: 32, cs: 40, rflags: 48, rsp: 56, ss: 64 }],
  [traps.CallbackRegister, 16, { type: 0, flags: 2, address: 8 }],
  [traps.CallbackUnregister, 4, { type: 0 }],
  [traps.XennmiCallback, 16, { handler_address: 0 }],
];

test.each(expected.map((row) => [row[0].name, ...row] as const))('layout of %s', (_name, struct, size, offsets) => {
  expect(struct.size).toBe(size);
  expect(struct.offsets).toMatchObject(offsets);
});
