/** What a command may touch besides xend: its streams, the time, files and other programs. Tests give their own. */
export interface World {
  readonly env: NodeJS.ProcessEnv;
  readonly cwd: string;
  readonly isRoot: boolean;
  readonly stdin: NodeJS.ReadableStream & { readonly isTTY?: boolean };
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal;
  out(text: string): void;
  err(text: string): void;
  now(): Date;
  /** Rejects when `signal` aborts. */
  sleep(ms: number): Promise<void>;
  /** Runs a program with our terminal and resolves to its exit code. */
  run(command: string, args: readonly string[]): Promise<number>;
  /** Becomes another program of ours, which ends the process: what execv is, without starting Node once more. */
  become(module: string, args: readonly string[]): Promise<never>;
}

/** Prints a line. */
export const print = (world: World, line = ''): void => {
  world.out(`${line}\n`);
};

/** `Error: text` on standard error. */
export const printError = (world: World, text: string): void => {
  world.err(`Error: ${text}\n`);
};
