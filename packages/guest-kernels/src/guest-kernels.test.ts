import { consoleShell } from './console-shell.ts';
import { guestKernel } from './runtime.ts';

test('the console shell is an ELF64 executable with Xen notes and the hypercall page on a page', () => {
  const image = Buffer.from(consoleShell());
  expect(image.subarray(0, 4).toString('latin1')).toBe('\x7fELF');
  expect(image.readUInt16LE(18)).toBe(62);
  const notes = image.subarray(64 + 2 * 56, 4096);
  const hypercallPage = noteValue(notes, 2);
  expect(hypercallPage % 4096n).toBe(0n);
  expect(noteValue(notes, 1)).toBe(image.readBigUInt64LE(24));
});

test('a source without main is refused with the symbol that is missing', () => {
  expect(() => guestKernel('none', 'nothing: ret')).toThrow("unknown symbol 'main'");
});

function noteValue(notes: Buffer, wanted: number): bigint {
  for (let at = 0; at + 16 <= notes.length;) {
    const size = notes.readUInt32LE(at + 4);
    if (notes.readUInt32LE(at + 8) === wanted) return notes.readBigUInt64LE(at + 16);
    at += 16 + Math.ceil(size / 4) * 4;
  }
  throw new Error(`no note ${wanted}`);
}
