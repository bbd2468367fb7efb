/** What a command may touch besides xend: its streams, the time, files and other programs. Tests give their own. */
import type { Duplex } from 'node:stream';

/** Size of the terminal behind a stream, in characters. */
export interface TerminalSize {
  readonly columns: number;
  readonly rows: number;
}

/** Standard input, from which commands that talk with a person read. */
export interface Input extends NodeJS.ReadableStream {
  readonly isTTY?: boolean;
  setRawMode?(mode: boolean): unknown;
}

export interface World {
  readonly env: NodeJS.ProcessEnv;
  readonly cwd: string;
  readonly isRoot: boolean;
  readonly stdin: Input;
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal;
  /** The terminal behind standard output, where there is one. */
  terminal(): TerminalSize | undefined;
  out(text: string): void;
  err(text: string): void;
  /** Bytes to standard output; resolves when there is room for more. */
  write(bytes: Uint8Array): Promise<void>;
  now(): Date;
  /** Rejects when `signal` aborts. */
  sleep(ms: number): Promise<void>;
  /** Runs a program with our terminal and resolves to its exit code. Rejects with ENOENT where there is none. */
  run(command: string, args: readonly string[], options?: RunOptions): Promise<number>;
  /** Starts a program whose standard input and output are the stream; ended by destroying it. */
  connect(command: string, args: readonly string[]): Duplex;
  /** Becomes another program of ours, which ends the process: what execv is, without starting Node once more. */
  become(module: string, args: readonly string[]): Promise<never>;
}

export interface RunOptions {
  /** What it gets on standard input instead of our own. */
  readonly input?: string;
  /** Leaves it behind: resolves to 0 as soon as it has started. */
  readonly detached?: boolean;
}

/** Prints a line. */
export const print = (world: World, line = ''): void => {
  world.out(`${line}\n`);
};

/** `Error: text` on standard error. */
export const printError = (world: World, text: string): void => {
  world.err(`Error: ${text}\n`);
};
