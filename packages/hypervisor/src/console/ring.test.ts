import { CONSOLE_RING_SIZE } from '../state/memory-map.ts';
import { TestHost } from '../test-host.test-kit.ts';

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const ALL = { count: CONSOLE_RING_SIZE, incremental: false, index: 0, clear: false };

test('what is logged is read, again and again, until cleared', () => {
  const { console } = new TestHost();
  console.log('one');
  console.log('two');
  expect(text(console.read(ALL).bytes)).toBe('(XEN) one\n(XEN) two\n');
  expect(text(console.read({ ...ALL, clear: true }).bytes)).toBe('(XEN) one\n(XEN) two\n');
  expect(text(console.read(ALL).bytes)).toBe('');
});

test('an incremental read goes on where the last one ended', () => {
  const { console } = new TestHost();
  console.log('one');
  const { next } = console.read(ALL);
  console.log('two');
  const more = console.read({ ...ALL, incremental: true, index: next });
  expect(text(more.bytes)).toBe('(XEN) two\n');
  expect(console.read({ ...ALL, incremental: true, index: more.next }).bytes).toHaveLength(0);
});

test('the ring keeps the newest bytes; an index that fell out starts at the oldest', () => {
  const { console } = new TestHost();
  console.log('first');
  const { next } = console.read(ALL);
  console.write(new Uint8Array(CONSOLE_RING_SIZE).fill(65));
  console.write(new Uint8Array([66]));
  const { bytes } = console.read({ ...ALL, incremental: true, index: next - 3 });
  expect(bytes).toHaveLength(CONSOLE_RING_SIZE);
  expect([bytes[0], bytes.at(-1)]).toEqual([65, 66]);
});

test('Domain-0 is told of new text', () => {
  const host = new TestHost();
  host.console.log('x');
  expect(host.conRings).toBe(1);
});
