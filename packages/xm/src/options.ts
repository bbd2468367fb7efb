/**
 * Options of the commands with an option parser of their own (Xen 4.4 `opts.py`): what they take and the text of them
 * that follows the usage.
 */
import { OptionError } from './errors.ts';
import { getopt, type OptionSpec, type ParsedOptions } from './getopt.ts';
import { wrap } from './text.ts';

export interface OptionRow extends OptionSpec {
  /** What its value is called in the help. */
  readonly value?: string;
  readonly doc: string;
}

const KEY_WIDTH = 20;
const DOC_WIDTH = 55;

/** Throws OptionError, after whose usage comes `help`. */
export function parseOptions(
  args: readonly string[],
  rows: readonly OptionRow[],
  { help }: { readonly help: string },
): ParsedOptions {
  try {
    return getopt(args, rows);
  } catch (error) {
    throw error instanceof OptionError ? new OptionError(error.message, { after: help }) : error;
  }
}

function helpLine(keys: string, doc: string): string {
  const lines = wrap(doc, DOC_WIDTH);
  if (keys.length > KEY_WIDTH) lines.unshift('');
  return keys.padEnd(KEY_WIDTH + 1) + lines.join(`\n${' '.repeat(KEY_WIDTH + 1)}`);
}

/** The options as the usage shows them. */
export function optionHelp(rows: readonly OptionRow[]): string {
  const lines = rows.map(({ short, long, value, doc }) => {
    const keys = [short && `-${short}`, long && `--${long}`].filter((key) => key !== undefined && key !== '');
    return helpLine(keys.map((key) => (value ? `${key ?? ''}=${value}` : key)).join(', '), doc);
  });
  return `\nOptions:\n\n${lines.join('\n')}\n\n`;
}

/** Variables of a configuration file as --help_config shows them. */
export function variableHelp(variables: readonly { readonly name: string; readonly doc: string }[]): string {
  const lines = variables.map(({ name, doc }) => helpLine(`${name}=${name.toUpperCase()}`, doc));
  return `\nValues:\n\n${lines.join('\n')}\n\n`;
}
