/** Command-line options of daemons, over node:util's parseArgs. */
import { parseArgs } from 'node:util';

export interface ArgSpec {
  readonly type: 'string' | 'boolean' | 'number';
  readonly help: string;
  /** One letter. */
  readonly short?: string;
  readonly default?: string | boolean | number;
}

type ValueOf<S extends ArgSpec> = S['type'] extends 'boolean'
  ? boolean
  : S['type'] extends 'number'
    ? S extends { default: number }
      ? number
      : number | undefined
    : S extends { default: string }
      ? string
      : string | undefined;

export type DaemonArgs<T extends Record<string, ArgSpec>> = { readonly [K in keyof T]: ValueOf<T[K]> };

/** A wrong option; its message is one line for people. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** The text of `--help`. */
export function usage(name: string, specs: Readonly<Record<string, ArgSpec>>): string {
  const rows = Object.entries(specs).map(([key, spec]) => {
    const flag = `--${key}${spec.type === 'boolean' ? '' : ` ${spec.type.toUpperCase()}`}`;
    const left = spec.short ? `-${spec.short}, ${flag}` : flag;
    const fallback = spec.default === undefined || spec.default === false ? '' : ` (default ${String(spec.default)})`;
    return `  ${left.padEnd(28)} ${spec.help}${fallback}`;
  });
  return [`Usage: ${name} [options]`, '', ...rows, `  ${'-h, --help'.padEnd(28)} this text`, ''].join('\n');
}

/** Parses options; `--help` prints the usage and exits 0. Throws UsageError for what is unknown or malformed. */
export function parseDaemonArgs<const T extends Record<string, ArgSpec>>(
  name: string,
  specs: T,
  argv: readonly string[] = process.argv.slice(2),
): DaemonArgs<T> {
  const options: Record<string, { type: 'string' | 'boolean'; short?: string }> = {
    help: { type: 'boolean', short: 'h' },
  };
  for (const [key, spec] of Object.entries(specs)) {
    options[key] = {
      type: spec.type === 'boolean' ? 'boolean' : 'string',
      ...(spec.short ? { short: spec.short } : {}),
    };
  }
  let values: Record<string, unknown>;
  try {
    ({ values } = parseArgs({ args: [...argv], options, allowPositionals: false }));
  } catch (error) {
    throw new UsageError(`${name}: ${(error as Error).message}`);
  }
  if (values['help'] === true) {
    process.stdout.write(usage(name, specs));
    process.exit(0);
  }
  const result: Record<string, unknown> = {};
  for (const [key, spec] of Object.entries(specs)) {
    const given = values[key];
    if (given === undefined) result[key] = spec.default ?? (spec.type === 'boolean' ? false : undefined);
    else if (spec.type === 'number') result[key] = numberOf(name, key, given as string);
    else result[key] = given;
  }
  return result as DaemonArgs<T>;
}

function numberOf(name: string, key: string, text: string): number {
  const n = Number(text);
  if (text.trim() === '' || !Number.isFinite(n))
    throw new UsageError(`${name}: --${key} wants a number, not '${text}'`);
  return n;
}
