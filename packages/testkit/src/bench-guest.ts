/**
 * The bench guest: a C program of micro-benchmarks with check values and a script around it, compiled for an initramfs.
 * Its sources lie outside this repository; where they or gcc are missing there is no bench guest.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

export const defaultBenchTools = '../shared/tools/guest';

const FLAGS = ['-O2', '-ffreestanding', '-nostdlib', '-static', '-fno-stack-protector', '-fno-pic', '-no-pie'];
const FLAGS_32 = ['-m32', '-march=i686', '-msse2'];

export interface GuestFile {
  readonly path: string;
  readonly data: Uint8Array;
  readonly mode: number;
}

/** Files for an initramfs: bin/gbench and /bench. Empty where they cannot be made. `bits`: of the program. */
export async function benchFiles(tools: string, bits: 32 | 64 = 64): Promise<readonly GuestFile[]> {
  const source = join(tools, 'gbench.c');
  const script = join(tools, 'guest-bench');
  if (!existsSync(source) || !existsSync(script)) return [];
  const directory = await mkdtemp(join(tmpdir(), 'xh-'));
  try {
    const output = join(directory, 'gbench');
    await promisify(execFile)('gcc', [...FLAGS, ...(bits === 32 ? FLAGS_32 : []), source, '-o', output]);
    return [
      { path: 'bin/gbench', data: await readFile(output), mode: 0o755 },
      { path: 'bench', data: await readFile(script), mode: 0o755 },
    ];
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
