/** A configuration in SXP, used as it is (-F). */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseAllSxp, type Sxp } from '@xenhost/sxp';
import { CommandFailed } from '../errors.ts';
import { wrongArguments } from '../getopt.ts';

/** The first value of the file. Throws OptionError, CommandFailed. */
export function readSxpConfig(file: string, cwd: string): Sxp {
  let text: string;
  try {
    text = readFileSync(resolve(cwd, file), 'utf8');
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw wrongArguments(`Cannot read file ${file}: ${code === 'ENOENT' ? 'No such file or directory' : message}`);
  }
  try {
    const [config] = parseAllSxp(text);
    if (config !== undefined) return config;
  } catch (error) {
    throw new CommandFailed(`${file}: ${(error as Error).message}`);
  }
  throw new CommandFailed(`${file} is empty`);
}
