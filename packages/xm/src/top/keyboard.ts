/** Keys of a terminal, one at a time, by name. */
import type { Input } from '../world.ts';

const NAMES: Readonly<Record<string, string>> = {
  '\x1b[A': 'up', '\x1bOA': 'up', '\x1b[B': 'down', '\x1bOB': 'down', '\x1b': 'escape', '\r': 'enter', '\n': 'enter',
  '\x7f': 'backspace', '\b': 'backspace', '\x03': 'end', '\x04': 'end',
}; // prettier-ignore

/** One key: an escape sequence as a whole, else a character. */
// eslint-disable-next-line no-control-regex -- control characters are what keys send
const KEY = /\x1b(?:[[O][0-9;]*[A-Za-z~])?|[\s\S]/gu;

export class Keyboard {
  readonly #input: Input;
  readonly #signal: AbortSignal;
  readonly #keys: string[] = [];
  #wake: (() => void) | undefined;

  constructor(input: Input, signal: AbortSignal) {
    this.#input = input;
    this.#signal = signal;
    input.setRawMode?.(true);
    input.on('data', this.#take);
    input.on('end', this.#ended);
    signal.addEventListener('abort', this.#ended);
    input.resume();
  }

  readonly #take = (data: Buffer | string): void => {
    for (const [key] of data.toString().matchAll(KEY)) this.#keys.push(NAMES[key] ?? key.toLowerCase());
    this.#wake?.();
  };

  readonly #ended = (): void => {
    this.#keys.push('end');
    this.#wake?.();
  };

  /** The next key; undefined when none came in time. */
  async next(timeoutMs: number): Promise<string | undefined> {
    if (this.#keys.length === 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, timeoutMs);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#wake = undefined;
    }
    return this.#keys.shift();
  }

  close(): void {
    this.#input.off('data', this.#take);
    this.#input.off('end', this.#ended);
    this.#signal.removeEventListener('abort', this.#ended);
    this.#input.setRawMode?.(false);
    this.#input.pause();
  }
}
