import fc from 'fast-check';
import { NETTXF, NetifTxRequest, XEN_NETIF_NR_SLOTS_MIN } from '@xenhost/xen-abi';
import { nextTxItem } from './tx-packets.ts';

const PAGE_BYTES = 4096;
const request = (flags: number, size: number, offset = 0, id = 0): Uint8Array =>
  NetifTxRequest.create({ gref: 100 + id, offset, flags, id, size }).bytes;
const read = (requests: readonly Uint8Array[]) =>
  nextTxItem((ahead) => requests[ahead] ?? new Uint8Array(NetifTxRequest.size), requests.length);

test('the first slot of a packet has what the others leave', () => {
  const { more_data } = NETTXF;
  expect(read([request(more_data, 5000), request(more_data, 1000, 7, 1), request(0, 2000, 0, 2)])).toEqual({
    kind: 'packet',
    slots: 3,
    extras: 0,
    bytes: 5000,
    checksumBlank: false,
    parts: [
      { id: 0, gref: 100, offset: 0, size: 2000 },
      { id: 1, gref: 101, offset: 7, size: 1000 },
      { id: 2, gref: 102, offset: 0, size: 2000 },
    ],
  });
});

test.each([
  [XEN_NETIF_NR_SLOTS_MIN, 'packet'],
  [XEN_NETIF_NR_SLOTS_MIN + 1, 'packet'],
  [XEN_NETIF_NR_SLOTS_MIN + 2, 'bad'],
  [21, 'bad'],
  [22, 'fatal'],
])('%i slots make a packet that is: %s', (slots, kind) => {
  const requests = Array.from({ length: slots }, (_, index) =>
    request(index < slots - 1 ? NETTXF.more_data : 0, index === 0 ? 100 + slots : 1, 0, index),
  );
  expect(read(requests).kind).toBe(kind);
});

test('whatever a ring holds is a packet inside its pages, or a fault; nothing past what is there is read', () => {
  const slot = fc.oneof(
    fc.uint8Array({ minLength: NetifTxRequest.size, maxLength: NetifTxRequest.size }),
    fc
      .record({ flags: fc.nat(15), size: fc.nat(6000), offset: fc.nat(5000), id: fc.nat(0xffff) })
      .map(({ flags, size, offset, id }) => request(flags, size, offset, id)),
  );
  fc.assert(
    fc.property(fc.array(slot, { minLength: 1, maxLength: 40 }), (requests) => {
      const item = nextTxItem((ahead) => {
        const bytes = requests[ahead];
        if (!bytes) throw new Error(`request ${ahead} of ${requests.length} is read`);
        return bytes;
      }, requests.length);
      if (item.kind === 'fatal') return;
      expect(item.slots).toBeGreaterThan(0);
      expect(item.slots).toBeLessThanOrEqual(requests.length);
      if (item.kind === 'bad') expect(item.ids.length + item.extras).toBe(item.slots);
      if (item.kind !== 'packet') return;
      expect(item.parts.length + item.extras).toBe(item.slots);
      expect(item.parts.reduce((sum, { size }) => sum + size, 0)).toBe(item.bytes);
      for (const { offset, size } of item.parts) {
        expect(size).toBeGreaterThanOrEqual(0);
        expect(offset + size).toBeLessThanOrEqual(PAGE_BYTES);
      }
      if (item.gso) expect(item.gso.size).toBeGreaterThan(0);
    }),
    { numRuns: 2000 },
  );
});
