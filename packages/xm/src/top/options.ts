/** What xm top takes: the options of xentop (Xen 4.4 `tools/xenstat/xentop`). */
import { OptionError } from '../errors.ts';
import { getopt } from '../getopt.ts';
import { optionHelp, type OptionRow } from '../options.ts';

export interface TopOptions {
  readonly delayS: number;
  readonly batch: boolean;
  /** How often to show; undefined for without end. */
  readonly iterations: number | undefined;
  readonly networks: boolean;
  readonly vbds: boolean;
  readonly vcpus: boolean;
  readonly repeatHeader: boolean;
  readonly fullNames: boolean;
  readonly version: boolean;
}

const DEFAULT_DELAY_S = 3;

const OPTIONS: readonly OptionRow[] = [
  { name: 'version', short: 'V', long: 'version', doc: 'Print the version.' },
  { name: 'delay', short: 'd', long: 'delay', takesValue: true, value: 'SECONDS', doc: 'Time between two views.' },
  { name: 'networks', short: 'n', long: 'networks', doc: 'Show network interfaces.' },
  { name: 'vbds', short: 'x', long: 'vbds', doc: 'Show virtual disks.' },
  { name: 'repeatHeader', short: 'r', long: 'repeat-header', doc: 'Put the header above each domain.' },
  { name: 'vcpus', short: 'v', long: 'vcpus', doc: 'Show vCPUs.' },
  { name: 'batch', short: 'b', long: 'batch', doc: 'Print view after view, without a screen or keys.' },
  { name: 'iterations', short: 'i', long: 'iterations', takesValue: true, value: 'N', doc: 'How many views.' },
  { name: 'fullNames', short: 'f', long: 'full-name', doc: 'Do not cut names.' },
];

export const topHelp = (): string => optionHelp(OPTIONS);

/** Throws OptionError. */
export function parseTopOptions(args: readonly string[]): TopOptions {
  const { options, words } = getopt(args, OPTIONS);
  const given = new Map(options);
  if (words.length > 0) throw new OptionError("'xm top' requires 0 arguments.\n");
  const count = (name: string): number | undefined => {
    const text = given.get(name);
    if (text === undefined) return undefined;
    if (!/^\d{1,6}$/.test(text) || Number(text) === 0) throw new OptionError(`--${name} wants a number, not ${text}`);
    return Number(text);
  };
  return {
    delayS: count('delay') ?? DEFAULT_DELAY_S,
    iterations: count('iterations'),
    batch: given.has('batch'),
    networks: given.has('networks'),
    vbds: given.has('vbds'),
    vcpus: given.has('vcpus'),
    repeatHeader: given.has('repeatHeader'),
    fullNames: given.has('fullNames'),
    version: given.has('version'),
  };
}
