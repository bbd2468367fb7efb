/** A process that writes is killed with SIGKILL: every write that was answered is there, and the image is whole. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkImage, createImage } from './create.ts';
import { openImage } from './open.ts';
import type { CreateImageSpec } from './types.ts';

jest.setTimeout(60_000);

/** As testing/writer.ts has them; that file is a program. */
const BLOCK_BYTES = 3072;
const tagOf = (block: number): number => 1 + ((block * 31) % 255);

/** Starts the writer, kills it when it has answered so many writes, and returns the blocks of all that it answered. */
async function writeAndKill(path: string, format: string, first: number, answers: number): Promise<number[]> {
  const child = spawn(process.execPath, [join(__dirname, 'testing', 'writer.ts'), path, format, String(first)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = new Promise((resolve) => child.once('exit', (_code, signal) => resolve(signal)));
  let output = '';
  let lines = 0;
  for await (const piece of child.stdout.setEncoding('utf8') as AsyncIterable<string>) {
    output += piece;
    lines += piece.split('\n').length - 1;
    if (lines >= answers) child.kill('SIGKILL');
  }
  expect(await ended).toBe('SIGKILL');
  return output.slice(0, output.lastIndexOf('\n')).split('\n').map(Number);
}

test.each<[string, Omit<CreateImageSpec, 'path'>]>([
  ['raw', { format: 'raw', sizeBytes: 8 << 20 }],
  ['qcow2', { format: 'qcow2', sizeBytes: 64 << 20 }],
  ['qcow2 of small clusters', { format: 'qcow2', sizeBytes: 16 << 20, clusterBytes: 1024 }],
  ['vhd', { format: 'vhd', sizeBytes: 64 << 20 }],
])('%s', async (_name, spec) => {
  const directory = mkdtempSync(join(tmpdir(), 'xh-'));
  try {
    const path = join(directory, 'image');
    await createImage({ ...spec, path });
    const blocks: number[] = [];
    // The second begins with what the first has left.
    for (const [first, answers] of [
      [1, 300],
      [100, 600],
    ] as const) {
      blocks.push(...(await writeAndKill(path, spec.format, first, answers)));
    }
    expect(blocks.length).toBeGreaterThanOrEqual(900);
    const image = await openImage({ path, format: spec.format, readOnly: true });
    const block = Buffer.alloc(BLOCK_BYTES);
    for (const index of blocks) {
      await image.read(index * BLOCK_BYTES, block);
      expect([index, block.every((byte) => byte === tagOf(index))]).toEqual([index, true]);
    }
    await image.close();
    if (spec.format === 'qcow2') expect((await checkImage(path)).errors).toBe(0);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
