/**
 * `npm run conformance -- NAME [options]`: runs what nobody here wrote (processors, kernels, frameworks, tools) against
 * this project. Each prints a row a case and ends with `N passed, N failed`; the exit code says the same.
 */
import { existsSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

interface ConformanceRun {
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
  process.stderr.write(`Usage: npm run conformance -- ${names.join('|')} [options]\n`);
  process.exitCode = 1;
} else {
  const suite = (await import(`./${name}/main.ts`)) as ConformanceRun;
  process.exitCode = await suite.run(argv);
}
