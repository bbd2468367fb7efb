/** Guests that write anything anywhere into their event memory, at any moment, hurt only themselves. */
import * as fc from 'fast-check';
import { domid, evtchnPort } from '@xenhost/base';
import { EVTCHNOP, EVTCHN_FIFO, EvtchnExpandArray, EvtchnInitControl } from '@xenhost/xen-abi';
import { FakeHost } from './fake-host.test-kit.ts';

const CONTROL = 3000;
const ARRAY = 3001;
const NR_PORTS = 40;

type Step =
  | { readonly kind: 'send' | 'close' | 'bind' | 'unmask'; readonly port: number }
  | { readonly kind: 'word'; readonly port: number; readonly value: number }
  | { readonly kind: 'control'; readonly at: number; readonly value: number };

const port = fc.integer({ min: 0, max: NR_PORTS });
const word = fc.oneof(
  fc.constantFrom(0, 1 << EVTCHN_FIFO.LINKED, 0x8000_0000, 0xffff_ffff, (1 << EVTCHN_FIFO.LINKED) | 5),
  fc.integer({ min: 0, max: 0xffff_ffff }),
);
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ kind: fc.constantFrom('send', 'close', 'bind', 'unmask'), port }),
  fc.record({ kind: fc.constant('word'), port, value: word }),
  fc.record({ kind: fc.constant('control'), at: fc.integer({ min: 0, max: 17 }), value: word }),
);

test('any steps: nothing throws, no byte outside the event memory of the guest changes, delivery works after it', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const h = new FakeHost();
      const a = h.addDomain(1, 2);
      const b = h.addDomain(2, 1);
      h.op(a, EVTCHNOP.init_control, EvtchnInitControl.create({ control_gfn: BigInt(CONTROL) }).bytes);
      h.op(a, EVTCHNOP.expand_array, EvtchnExpandArray.create({ array_gfn: BigInt(ARRAY) }).bytes);
      const other = h.memory.frame(b.v.sharedInfoMfn).slice();
      for (const s of steps) {
        if (s.kind === 'word') h.memory.u32[(ARRAY * 4096) / 4 + s.port] = s.value;
        else if (s.kind === 'control') h.memory.u32[(CONTROL * 4096) / 4 + s.at] = s.value;
        else if (s.kind === 'send') h.events.send(a, evtchnPort(s.port));
        else if (s.kind === 'close') h.events.close(a, evtchnPort(s.port));
        else if (s.kind === 'unmask') h.events.unmask(a, s.port);
        else h.events.bindIpi(a, s.port & 1);
      }
      expect(h.memory.frame(b.v.sharedInfoMfn)).toEqual(other);
      expect([h.memory.u32[(CONTROL * 4096) / 4 + 18], h.memory.u32[(ARRAY * 4096) / 4 + 1023]]).toEqual([0, 0]);
      // A guest that comes to its senses: everything consumed, and events flow again.
      h.memory.frame(ARRAY).fill(0);
      h.memory.frame(CONTROL).fill(0);
      const fresh = h.events.bindIpi(a, 0);
      expect(h.events.send(a, evtchnPort(fresh))).toBe(0);
      expect(h.memory.u32[(CONTROL * 4096 + 8) / 4 + EVTCHN_FIFO.PRIORITY_DEFAULT]).toBe(fresh);
      h.events.destroyDomain(a);
      expect(h.held).toEqual([]);
      expect(h.events.allocUnbound(b, domid(0))).toBe(1);
    }),
    { numRuns: 60 },
  );
});
