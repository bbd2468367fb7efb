/** Rows of a conformance run: one line a case, the closing line `N passed, N failed`, the exit code. */

export class Report {
  #passed = 0;
  #failed = 0;
  readonly #write: (line: string) => void;

  constructor(write: (line: string) => void = (line) => void process.stdout.write(`${line}\n`)) {
    this.#write = write;
  }

  get failed(): number {
    return this.#failed;
  }

  row(name: string, passed: boolean, detail = ''): void {
    if (passed) this.#passed++;
    else this.#failed++;
    this.#write(`${passed ? 'ok  ' : 'FAIL'} ${name.padEnd(44)} ${detail}`.trimEnd());
  }

  note(text: string): void {
    this.#write(`     ${text}`);
  }

  /** A case that cannot be run here, and why; it counts as neither. */
  skip(name: string, reason: string): void {
    this.#write(`skip ${name.padEnd(44)} ${reason}`);
  }

  /** Runs a case: it passes when the body does not throw; what the body returns is its detail. */
  async case(name: string, body: () => Promise<string | void> | string | void): Promise<boolean> {
    const start = Date.now();
    try {
      const detail = await body();
      this.row(name, true, `${detail ?? ''} (${Date.now() - start} ms)`.trimStart());
      return true;
    } catch (error) {
      this.row(name, false, error instanceof Error ? error.message : String(error));
      return false;
    }
  }

  /** Prints the closing line; the result is the exit code: a run without a case has failed. */
  close(): number {
    this.#write(`${this.#passed} passed, ${this.#failed} failed`);
    return this.#failed === 0 && this.#passed > 0 ? 0 : 1;
  }
}

export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new Error(message);
}
