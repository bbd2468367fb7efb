/** A console as an expect-like script sees it: everything printed so far, and waiting for what comes. */
import type { ChildProcessWithoutNullStreams } from 'node:child_process';

const KEEP = 4000;

export class ConsoleSession {
  readonly #child: ChildProcessWithoutNullStreams;
  #output = '';
  #searchedTo = 0;
  #closed = false;
  #wake: () => void = () => undefined;

  constructor(child: ChildProcessWithoutNullStreams) {
    this.#child = child;
    const add = (chunk: Buffer): void => {
      this.#output += chunk.toString('utf8');
      this.#wake();
    };
    child.stdout.on('data', add);
    child.stderr.on('data', add);
    const abandon = (): void => void child.kill('SIGKILL');
    process.on('exit', abandon);
    child.once('close', () => {
      this.#closed = true;
      process.off('exit', abandon);
      this.#wake();
    });
    child.stdin.on('error', () => undefined);
  }

  get output(): string {
    return this.#output;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Waits for a pattern after what was matched last. Rejects with the end of the output on time-out or end. */
  async expect(pattern: RegExp | string, timeoutMs: number): Promise<RegExpExecArray> {
    const regexp =
      typeof pattern === 'string' ? new RegExp(pattern.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')) : pattern;
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const match = regexp.exec(this.#output.slice(this.#searchedTo));
      if (match) {
        this.#searchedTo += match.index + match[0].length;
        return match;
      }
      const left = deadline - Date.now();
      if (this.#closed || left <= 0) {
        const why = this.#closed ? 'the console ended' : `nothing within ${timeoutMs} ms`;
        throw new Error(`waiting for ${String(regexp)}: ${why}; last output:\n${this.#output.slice(-KEEP)}`);
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  /** Gives a shell one line and waits for its end; the result is what was printed meanwhile, echo included. */
  async command(line: string, timeoutMs: number): Promise<string> {
    const mark = `done-${Math.random().toString(36).slice(2)}`;
    // The echo of the line must not look like the mark.
    this.write(`${line}; echo ${mark.slice(0, 4)}''${mark.slice(4)}\n`);
    const match = await this.expect(new RegExp(`([\\s\\S]*?)${mark}\\r?\\n`), timeoutMs);
    return match[1] ?? '';
  }

  write(text: string): void {
    this.#child.stdin.write(text);
  }

  close(): void {
    if (!this.#closed) this.#child.kill('SIGTERM');
  }
}
