/**
 * A process that is one v86 machine: `v86-machine.ts PACKAGE BIOS-FOLDER KERNEL RAMDISK MEMORY-MIB COMMAND-LINE`, its first serial
 * port on standard input and output. v86 is npm's package of that name (github.com/copy/v86), unpacked in PACKAGE.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

interface Image {
  readonly buffer: ArrayBuffer;
}

interface V86 {
  add_listener(event: 'serial0-output-byte', listener: (byte: number) => void): void;
  serial0_send(text: string): void;
}

type V86Constructor = new (options: {
  readonly wasm_path: string;
  readonly memory_size: number;
  readonly bios: Image;
  readonly vga_bios: Image;
  readonly bzimage: Image;
  readonly initrd: Image;
  readonly cmdline: string;
  readonly autostart: boolean;
  readonly disable_speaker: boolean;
}) => V86;

const FLUSH_MS = 5;

const [, , packageFolder = '', biosFolder = '', kernel = '', ramdisk = '', memoryMiB = '', commandLine = ''] =
  process.argv;

const image = (path: string): Image => {
  const bytes = readFileSync(path);
  return { buffer: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length) };
};

const build = join(packageFolder, 'build');
const { V86 } = (await import(pathToFileURL(join(build, 'libv86.mjs')).href)) as { V86: V86Constructor };
const machine = new V86({
  wasm_path: join(build, 'v86.wasm'),
  memory_size: Number(memoryMiB) * 2 ** 20,
  bios: image(join(biosFolder, 'bios.bin')),
  vga_bios: image(join(biosFolder, 'vgabios-stdvga.bin')),
  bzimage: image(kernel),
  initrd: image(ramdisk),
  cmdline: commandLine,
  autostart: true,
  disable_speaker: true,
});

let pending: number[] = [];
machine.add_listener('serial0-output-byte', (byte) => {
  if (pending.length === 0) {
    setTimeout(() => {
      process.stdout.write(Uint8Array.from(pending));
      pending = [];
    }, FLUSH_MS);
  }
  pending.push(byte);
});
process.stdin.on('data', (chunk: Buffer) => {
  machine.serial0_send(chunk.toString('latin1'));
});
process.stdin.on('end', () => process.exit(0));
