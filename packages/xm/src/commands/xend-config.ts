/** xm info --config: xend's own configuration as this machine has it (xm reads the file itself, as Xen 4.4's does). */
import { readFileSync } from 'node:fs';
import { isList, parseAllSxp, type Sxp } from '@xenhost/sxp';
import { CommandFailed } from '../errors.ts';
import type { World } from '../world.ts';

const DEFAULT_FILE = '/etc/xen/xend-config.sxp';

/** The settings in the order of the file. Throws CommandFailed. */
export function configPairs(world: World): readonly Sxp[] {
  const file = world.env['XEND_CONFIG'] ?? DEFAULT_FILE;
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    world.err(`xend [ERROR] Config file does not exist: ${file}\n`);
    return [];
  }
  try {
    return parseAllSxp(text).filter((item) => isList(item) && item.length > 0);
  } catch (error) {
    throw new CommandFailed(`${file}: ${(error as Error).message}`);
  }
}
