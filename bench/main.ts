/**
 * `npm run bench -- NAME [options]`: prints one JSON line a figure. Ratios are against a peer measured in the same run;
 * nothing here decides a test.
 */
import { existsSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

interface Bench {
  /** Resolves to the exit code. */
  run(argv: readonly string[]): Promise<number>;
}

const here = fileURLToPath(new URL('.', import.meta.url));
const names = readdirSync(here, { withFileTypes: true })
  .filter((entry) => entry.isDirectory() && existsSync(`${here}/${entry.name}/main.ts`))
  .map((entry) => entry.name)
  .sort();

const [name, ...argv] = process.argv.slice(2);
if (name === undefined || !names.includes(name)) {
  process.stderr.write(`Usage: npm run bench -- ${names.join('|')} [options]\n`);
  process.exitCode = 1;
} else {
  const bench = (await import(`./${name}/main.ts`)) as Bench;
  process.exitCode = await bench.run(argv);
}
