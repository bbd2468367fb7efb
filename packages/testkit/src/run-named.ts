/** The entry of a folder of runs: `NAME/main.ts` exports `run(argv)`; the command line names one. */
import { existsSync, readdirSync } from 'node:fs';

interface NamedRun {
  /** Resolves to the exit code. */
  run(argv: readonly string[]): Promise<number>;
}

/**
 * Runs the one of the runs beneath `folder` (a URL that ends in `/`) that the arguments name. Resolves to the exit code: 1, with a usage line
 * on standard error that begins with `command`, when they name none.
 */
export async function runNamed(folder: URL, command: string, [name, ...argv]: readonly string[]): Promise<number> {
  const entry = (each: string): URL => new URL(`${each}/main.ts`, folder);
  const names = readdirSync(folder, { withFileTypes: true })
    .filter((each) => each.isDirectory() && existsSync(entry(each.name)))
    .map((each) => each.name)
    .sort();
  if (name === undefined || !names.includes(name)) {
    process.stderr.write(`Usage: ${command} ${names.join('|')} [options]\n`);
    return 1;
  }
  // By `exit`, so that what a run has started is ended with it.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));
  const module = (await import(entry(name).href)) as NamedRun;
  return module.run(argv);
}
