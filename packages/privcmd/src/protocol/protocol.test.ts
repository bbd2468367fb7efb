import fc from 'fast-check';
import { fromWireU64, toWireU64 } from './convert.ts';
import { encodeFrame, FrameError, FrameReader } from './frames.ts';
import type { Frame } from './frames.ts';
import { emptyReply } from './messages.ts';
import { RequestCodec, ServerMessageCodec } from './schema.ts';

const LIMITS = { maxHeaderBytes: 1000, maxPayloadBytes: 2000 };
const edges = [0n, 1n, 0x7fff_ffffn, 0xffff_ffffn, 1n << 32n, (1n << 53n) + 1n, 1n << 63n, (1n << 64n) - 1n];

describe('64-bit fields', () => {
  test.each(edges)('%s survives in each 64-bit field', (value) => {
    const wire = toWireU64(value);
    const hypercall = { op: 1, args: [wire], arena: [{ address: wire, length: 1, stored: true, output: false }] };
    const request = RequestCodec.decode(RequestCodec.encode({ id: 1, hypercall })).hypercall;
    expect(request?.args.map(fromWireU64)).toEqual([value]);
    expect(request?.arena.map((part) => fromWireU64(part.address))).toEqual([value]);
    const reply = ServerMessageCodec.decode(ServerMessageCodec.encode({ reply: { ...emptyReply(1), value: wire } }));
    expect(fromWireU64(reply.reply?.value)).toBe(value);
  });

  test('a number is not taken for a 64-bit value', () => {
    expect(() => fromWireU64(2 ** 60)).toThrow(TypeError);
  });
});

const concat = (parts: Uint8Array[]): Uint8Array => Uint8Array.from(Buffer.concat(parts));

describe('frames', () => {
  test('come back whole however the stream is cut', () => {
    const bytes = (maxLength: number) => fc.uint8Array({ minLength: 1, maxLength });
    const frames = fc.array(fc.record({ header: bytes(50), payload: bytes(300) }), { maxLength: 5 });
    fc.assert(
      fc.property(frames, fc.infiniteStream(fc.integer({ min: 1, max: 40 })), (sent, cuts) => {
        const stream = concat(sent.flatMap(({ header, payload }) => encodeFrame(header, [payload])));
        const reader = new FrameReader(LIMITS);
        const received = [];
        for (let at = 0; at < stream.length;) {
          const cut = cuts.next();
          const n = cut.done === true ? 1 : cut.value;
          received.push(...reader.push(stream.subarray(at, at + n)));
          at += n;
        }
        expect(
          received.map((f) => ({ header: Uint8Array.from(f.header), payload: Uint8Array.from(f.payload) })),
        ).toEqual(sent);
        expect(reader.buffered).toBe(0);
      }),
      { numRuns: 100 },
    );
  });

  const prefix = (header: number, payload: number): Uint8Array => {
    const dv = new DataView(new ArrayBuffer(8));
    dv.setUint32(0, header, true);
    dv.setUint32(4, payload, true);
    return new Uint8Array(dv.buffer);
  };

  test.each([
    [1000, 2000, true],
    [1001, 0, false],
    [1, 2001, false],
    [0, 0, false],
    [0xffff_ffff, 0xffff_ffff, false],
  ])('header %d, payload %d: accepted %s', (header, payload, accepted) => {
    const reader = new FrameReader(LIMITS);
    if (accepted) expect(reader.push(prefix(header, payload))).toEqual([]);
    else expect(() => reader.push(prefix(header, payload))).toThrow(FrameError);
  });

  test('frames that were given back are used again, for smaller ones too, and never while somebody holds them', () => {
    const reader = new FrameReader({ maxHeaderBytes: 10, maxPayloadBytes: 1 << 20 });
    const receive = (bytes: number, value: number): Frame => {
      const parts = encodeFrame(Uint8Array.of(value), [new Uint8Array(bytes).fill(value)]);
      const [frame] = reader.push(Buffer.concat(parts));
      if (!frame) throw new Error('no frame');
      expect([frame.header[0], frame.payload.length, frame.payload[0], frame.payload.at(-1)]).toEqual([value, bytes, value, value]); // prettier-ignore
      return frame;
    };
    const first = receive(100_000, 1);
    const second = receive(100_000, 2);
    expect(second.payload.buffer).not.toBe(first.payload.buffer);
    reader.recycle(second);
    const third = receive(50_000, 3);
    expect(third.payload.buffer).toBe(second.payload.buffer);
    expect(receive(50_000, 4).payload.buffer).not.toBe(third.payload.buffer);
    reader.recycle(third);
    expect(receive(100_000, 5).payload.buffer).toBe(third.payload.buffer);
    const small = receive(100, 6);
    reader.recycle(small);
    expect(receive(100, 7).payload.buffer).not.toBe(first.payload.buffer);
    expect(first.payload.every((byte) => byte === 1)).toBe(true);
  });

  test('what is held grows with what was received, not with what was announced', () => {
    const reader = new FrameReader({ maxHeaderBytes: 10, maxPayloadBytes: 64 << 20 });
    reader.push(prefix(10, 64 << 20));
    expect(reader.buffered).toBeLessThanOrEqual(2 << 20);
    reader.push(new Uint8Array(4 << 20));
    expect(reader.buffered).toBeLessThanOrEqual(16 << 20);
  });

  test("a frame that is used again is nobody else's memory", () => {
    const reader = new FrameReader({ maxHeaderBytes: 10, maxPayloadBytes: 1 << 20 });
    const frame = (payload: number): Uint8Array => concat(encodeFrame(new Uint8Array(10), [new Uint8Array(payload)]));
    const others: Buffer[] = [];
    // As many small ones as fill several of the slabs that small buffers are cut from: one of them begins a slab.
    for (let i = 0; i * 3000 < 4 * Buffer.poolSize; i++) {
      for (const each of reader.push(frame(2000))) reader.recycle(each);
      others.push(Buffer.allocUnsafe(1000).fill(0x5a));
    }
    const [large] = reader.push(frame(Buffer.poolSize - 100));
    expect(large?.payload.length).toBe(Buffer.poolSize - 100);
    expect(others.every((other) => other.every((byte) => byte === 0x5a))).toBe(true);
    if (large) reader.recycle(large);
    const [again] = reader.push(frame(Buffer.poolSize - 200));
    expect(again?.payload.buffer).toBe(large?.payload.buffer);
  });
});
