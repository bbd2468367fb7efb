/**
 * How to start a program of this repository: the bundle in dist/ when there is one (fast start), else its TypeScript
 * source, which Node 24 runs as it is. `XENHOST_SOURCE=1` always takes the source.
 */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface Program {
  readonly command: string;
  readonly args: readonly string[];
}

/** The root of the checkout or of the installation: the nearest folder above this file that holds `packages`. */
export function installationRoot(from: string = dirname(fileURLToPath(import.meta.url))): string {
  for (let folder = from; ; folder = dirname(folder)) {
    if (existsSync(join(folder, 'packages')) && existsSync(join(folder, 'package.json'))) return folder;
    if (dirname(folder) === folder) throw new Error(`no installation of xenhost above ${from}`);
  }
}

/** The program of a package: `name` is its folder, `entry` its file under src without ending. */
export function program(name: string, entry = 'main', nodeFlags: readonly string[] = []): Program {
  const root = installationRoot();
  const bundle = join(root, 'dist', entry === 'main' ? name : entry);
  // Daemons are ES modules, commands that shall start fast CommonJS (tools/link-command.mjs).
  const built = [`${bundle}.mjs`, `${bundle}.cjs`].find((path) => existsSync(path));
  const file =
    built !== undefined && process.env['XENHOST_SOURCE'] !== '1'
      ? built
      : join(root, 'packages', name, 'src', `${entry}.ts`);
  return { command: process.execPath, args: [...nodeFlags, file] };
}
