/** A C program that runs cases on the machine's own processor: compiled for one run, gone after it. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export class NativeRunner implements Disposable {
  readonly binary: string;
  readonly #directory: string;

  /** `source`: the C file. Throws with gcc's words when it does not compile. */
  constructor(source: URL) {
    this.#directory = mkdtempSync(join(tmpdir(), 'xh-native-'));
    this.binary = join(this.#directory, 'runner');
    const file = fileURLToPath(source);
    const gcc = spawnSync('gcc', ['-O1', '-fno-stack-protector', '-o', this.binary, file], { encoding: 'utf8' });
    if (gcc.status !== 0) throw new Error(`gcc failed: ${gcc.stderr || String(gcc.error)}`);
  }

  [Symbol.dispose](): void {
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
