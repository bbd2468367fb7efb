import fc from 'fast-check';
import {
  XS_PAYLOAD_MAX,
  XsOp,
  XsPacketParser,
  XsPacketReader,
  encodeXsPacket,
  formatXsPerm,
  joinStrings,
  parseXsPerm,
  splitStrings,
  xsOpName,
} from './index.ts';
import type { XsAccess } from './index.ts';

const packet = fc.record({
  op: fc.nat(0xffffffff),
  reqId: fc.nat(0xffffffff),
  txId: fc.nat(0xffffffff),
  payload: fc.uint8Array({ maxLength: 300 }),
});

test('packets come out as they went in, whatever the chunks', () => {
  fc.assert(
    fc.property(
      fc.array(packet, { maxLength: 12 }),
      fc.array(fc.integer({ min: 1, max: 500 }), { minLength: 1 }),
      (packets, sizes) => {
        const bytes = Buffer.concat(packets.map((p) => encodeXsPacket(p.op, p.reqId, p.txId, p.payload)));
        const parser = new XsPacketParser();
        const out = [];
        for (let at = 0, i = 0; at < bytes.length; i++) {
          const size = sizes[i % sizes.length] ?? 1;
          out.push(...parser.push(bytes.subarray(at, at + size)));
          at += size;
        }
        expect(out.map((p) => ({ ...p, payload: Uint8Array.from(p.payload) }))).toEqual(packets);
        expect(parser.pendingBytes).toBe(0);
        expect(parser.violated).toBe(false);
      },
    ),
  );
});

test('bytes that were lent may be overwritten once what is left of them is kept', () => {
  fc.assert(
    fc.property(
      fc.array(packet, { maxLength: 12 }),
      fc.array(fc.record({ size: fc.integer({ min: 1, max: 500 }), taken: fc.nat(3) }), { minLength: 1 }),
      (packets, chunks) => {
        const bytes = Buffer.concat(packets.map((p) => encodeXsPacket(p.op, p.reqId, p.txId, p.payload)));
        const reader = new XsPacketReader();
        const shared = Buffer.alloc(500);
        const out: unknown[] = [];
        const take = (max: number): void => {
          for (let left = max; left > 0; left--) {
            const next = reader.next();
            if (!next) return;
            out.push({ ...next, payload: Uint8Array.from(next.payload) });
          }
        };
        for (let at = 0, i = 0; at < bytes.length; i++) {
          const { size, taken } = chunks[i % chunks.length] ?? { size: 1, taken: 1 };
          reader.lend(shared, bytes.copy(shared, 0, at, at + size));
          at += size;
          // Some are run at once, others later.
          take(taken);
          reader.keep();
          shared.fill(0xff);
        }
        take(Infinity);
        expect(out).toEqual(packets);
        expect(reader.pendingBytes).toBe(0);
      },
    ),
  );
});

test('any bytes: no throw, bounded memory, nothing after a violation', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 5000 }), { maxLength: 8 }), (chunks) => {
      const parser = new XsPacketParser();
      for (const chunk of chunks) {
        const before = parser.violated;
        const packets = parser.push(chunk);
        if (before) expect(packets).toEqual([]);
        expect(parser.pendingBytes).toBeLessThan(16 + XS_PAYLOAD_MAX);
      }
    }),
  );
});

test.each([
  [XS_PAYLOAD_MAX, false],
  [XS_PAYLOAD_MAX + 1, true],
  [0xffffffff, true],
])('a header that announces %i bytes: violation %s', (length, violated) => {
  const parser = new XsPacketParser();
  const header = encodeXsPacket(XsOp.READ, 1, 0, '');
  header.writeUInt32LE(length, 12);
  const good = encodeXsPacket(XsOp.READ, 7, 0, '');
  expect(parser.push(Buffer.concat([good, header])).map((p) => p.reqId)).toEqual([7]);
  expect(parser.violated).toBe(violated);
});

test('a payload over the limit is not encoded', () => {
  expect(encodeXsPacket(2, 1, 0, 'x'.repeat(XS_PAYLOAD_MAX)).length).toBe(16 + XS_PAYLOAD_MAX);
  expect(() => encodeXsPacket(2, 1, 0, 'x'.repeat(XS_PAYLOAD_MAX + 1))).toThrow(RangeError);
});

test('strings and their NULs', () => {
  expect(splitStrings(Buffer.from('a\0bc\0\0rest'))).toEqual({ strings: ['a', 'bc', ''], rest: Buffer.from('rest') });
  expect(splitStrings(Buffer.alloc(0))).toEqual({ strings: [], rest: Buffer.alloc(0) });
  expect(joinStrings(['a', ''])).toBe('a\0\0');
});

test.each<[string, number, XsAccess]>([
  ['n0', 0, 'none'],
  ['r5', 5, 'read'],
  ['w12', 12, 'write'],
  ['b65535', 65535, 'both'],
])('permission %s', (text, domid, access) => {
  expect(parseXsPerm(text)).toEqual({ domid, access });
  expect(formatXsPerm({ domid, access })).toBe(text);
});

test.each(['', 'n', 'x5', 'n-1', 'r65536', 'n5 ', 'b5x', 'n123456'])('not a permission: %j', (text) => {
  expect(parseXsPerm(text)).toBeUndefined();
});

test('operation names', () => {
  expect(xsOpName(22)).toBe('DIRECTORY_PART');
  expect(xsOpName(20)).toBe('OP20');
});
