import { Duplex, PassThrough } from 'node:stream';
import fc from 'fast-check';
import { FrameDecoder, FrameStream } from './frame-stream.ts';
import { MAX_QUEUED_BYTES } from './limits.ts';

function framed(frames: readonly Uint8Array[]): Buffer {
  return Buffer.concat(
    frames.flatMap((frame) => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(frame.length);
      return [length, frame];
    }),
  );
}

test('frames come out as they went in, wherever the stream is cut', () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 50 })),
      fc.array(fc.integer({ min: 1, max: 60 })),
      (frames, cuts) => {
        const bytes = framed(frames);
        const decoder = new FrameDecoder(100);
        const got: string[] = [];
        for (let at = 0, i = 0; at < bytes.length; i += 1) {
          const to = at + (cuts[i % Math.max(1, cuts.length)] ?? 7);
          decoder.push(bytes.subarray(at, to), (frame) => got.push(Buffer.from(frame).toString('hex')));
          at = to;
        }
        expect(got).toEqual(frames.map((frame) => Buffer.from(frame).toString('hex')));
      },
    ),
  );
});

test.each([1, 4, 1000])('a length above the maximum ends it, cut at %i', (cut) => {
  const decoder = new FrameDecoder(100);
  const bytes = Buffer.from([0, 0, 0, 101, 1, 2, 3]);
  expect(() => {
    for (let at = 0; at < bytes.length; at += cut) decoder.push(bytes.subarray(at, at + cut), () => undefined);
  }).toThrow('a frame of 101 bytes');
});

test('both ends speak it, and a stream that ends tells so once', async () => {
  const [left, right] = [new PassThrough(), new PassThrough()];
  const got: string[] = [];
  const closed: string[] = [];
  const ends = {
    frame: (bytes: Uint8Array) => got.push(String(Buffer.from(bytes))),
    closed: (why: string) => closed.push(why),
  };
  const here = new FrameStream(Duplex.from({ readable: left, writable: right }), 100, ends);
  new FrameStream(Duplex.from({ readable: right, writable: left }), 100, ends);
  expect(here.send(Buffer.from('in '), Buffer.from('parts'))).toBe(true);
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(got).toEqual(['in parts']);
  here.close();
  expect(here.send(Buffer.from('late'))).toBe(false);
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(closed.length).toBeGreaterThan(0);
});

test('what the other side does not read is dropped from a bound on', () => {
  const stuck = new Duplex({ read: () => undefined, write: () => undefined });
  const stream = new FrameStream(stuck, 100, { frame: () => undefined, closed: () => undefined });
  const frame = new Uint8Array(1 << 20);
  let sent = 0;
  while (stream.send(frame)) sent += 1;
  // Each frame has its length before it: the last that fits goes over the bound.
  expect(sent).toBe(MAX_QUEUED_BYTES / frame.length);
});
