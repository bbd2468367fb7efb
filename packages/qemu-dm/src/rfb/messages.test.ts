import fc from 'fast-check';
import { MAX_CUT_TEXT_BYTES, MAX_ENCODINGS } from '../limits.ts';
import { ByteQueue, ClientMessages, type ClientMessage } from './messages.ts';

/** The messages in bytes that come in pieces. */
function read(...pieces: readonly Uint8Array[]): ClientMessage[] {
  const queue = new ByteQueue();
  const messages = new ClientMessages(queue);
  const found: ClientMessage[] = [];
  for (const piece of pieces) {
    queue.push(piece);
    for (let message = messages.next(); message; message = messages.next()) {
      found.push(message);
      if (message.kind === 'violation') return found;
    }
  }
  return found;
}

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');

test.each<[string, string, ClientMessage[]]>([
  ['FramebufferUpdateRequest', '03 01 0001 0002 0003 0004', [{ kind: 'updateRequest', incremental: true, rect: { x: 1, y: 2, width: 3, height: 4 } }]],
  ['SetEncodings', '02 00 0003 00000010 00000000 ffffff21', [{ kind: 'setEncodings', encodings: [16, 0, -223] }]],
  ['SetEncodings of none', '02 00 0000', [{ kind: 'setEncodings', encodings: [] }]],
  ['KeyEvent', '04 01 0000 0000ff0d', [{ kind: 'key', down: true, keysym: 0xff0d }]],
  ['PointerEvent', '05 09 0010 0020', [{ kind: 'pointer', buttons: 9, x: 16, y: 32 }]],
  ['ClientCutText and on', '06 000000 00000003 414243 04 00 0000 00000041', [{ kind: 'key', down: false, keysym: 65 }]],
  ['QEMU key', 'ff 00 0001 00000061 0000001e', [{ kind: 'key', down: true, keysym: 0x61, scancode: 0x1e }]],
  ['half a message', '04 01 00', []],
  ['another type', '07 00', [{ kind: 'violation', reason: 'message type 7' }]],
  ['another QEMU message', 'ff 01 00000000000000000000', [{ kind: 'violation', reason: 'QEMU message 1' }]],
  ['a huge clipboard', '06 000000 ffffffff', [{ kind: 'violation', reason: 'a clipboard of 4294967295 bytes' }]],
])('%s', (_, text, expected) => {
  expect(read(hex(text))).toEqual(expected);
}); // prettier-ignore

test('a long list of encodings is cut', () => {
  const bytes = Buffer.alloc(4 + 4 * 0xffff);
  bytes.set([2, 0, 0xff, 0xff]);
  const [message] = read(bytes);
  expect(message?.kind === 'setEncodings' && message.encodings.length).toBe(MAX_ENCODINGS);
});

test('a clipboard never waits in memory', () => {
  const queue = new ByteQueue();
  const messages = new ClientMessages(queue);
  queue.push(hex(`06 000000 ${MAX_CUT_TEXT_BYTES.toString(16).padStart(8, '0')}`));
  for (let sent = 0; sent < MAX_CUT_TEXT_BYTES; sent += 65536) {
    expect(messages.next()).toBeUndefined();
    expect(queue.length).toBe(0);
    queue.push(Buffer.alloc(65536));
  }
  expect(messages.next()).toBeUndefined();
  queue.push(hex('04 01 0000 00000041'));
  expect(messages.next()).toMatchObject({ kind: 'key' });
});

test('how bytes are cut into pieces makes no difference', () => {
  const message = fc.oneof(
    fc.uint8Array({ minLength: 9, maxLength: 9 }).map((tail) => Uint8Array.of(3, ...tail)),
    fc.uint8Array({ minLength: 7, maxLength: 7 }).map((tail) => Uint8Array.of(4, ...tail)),
    fc.uint8Array({ minLength: 5, maxLength: 5 }).map((tail) => Uint8Array.of(5, ...tail)),
    fc.uint8Array({ maxLength: 30 }).map((text) => Uint8Array.of(6, 0, 0, 0, 0, 0, 0, text.length, ...text)),
    fc.array(fc.nat(255), { maxLength: 9 }).map((list) => Uint8Array.of(2, 0, 0, list.length, ...list.flatMap((n) => [0, 0, 0, n]))),
    fc.uint8Array({ maxLength: 12 }),
  ); // prettier-ignore
  fc.assert(
    fc.property(fc.array(message, { maxLength: 8 }), fc.array(fc.nat(20), { maxLength: 20 }), (parts, cuts) => {
      const bytes = Buffer.concat(parts);
      const pieces: Uint8Array[] = [];
      let at = 0;
      for (const cut of cuts) pieces.push(bytes.subarray(at, (at += cut)));
      pieces.push(bytes.subarray(at));
      expect(read(...pieces)).toEqual(read(bytes));
    }),
  );
});
