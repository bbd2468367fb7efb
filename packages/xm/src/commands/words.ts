/** What several commands say about wrong words. */
import { pythonRepr } from '@xenhost/sxp';
import { CommandFailed, Exit, OptionError } from '../errors.ts';
import { wrongArguments, type ParsedOptions } from '../getopt.ts';
import { print, printError, type World } from '../world.ts';

/** Says what is wrong and ends with the usage. */
export function refused(world: World, text: string): Exit {
  printError(world, text);
  return new Exit(1, { usage: true });
}

export const wrongCount = (world: World): Exit => refused(world, 'Wrong number of parameters');

/** Where files are looked for that are not where they were said to be. */
export const CONFIG_FOLDER = '/etc/xen';

/** Errors of security modules are shown as Python shows a string. */
export const securityError = (text: string): CommandFailed => new CommandFailed(pythonRepr(text));

/** For commands of which Xen 4.4 shows an empty line after the usage when an option is wrong. */
export function badOption(parse: () => ParsedOptions): ParsedOptions {
  try {
    return parse();
  } catch (error) {
    throw error instanceof OptionError ? wrongArguments(error.message) : error;
  }
}

/** The one domain of a listing of devices. */
export function onlyDomain(world: World, words: readonly string[]): string {
  const [dom] = words;
  if (dom !== undefined && words.length === 1) return dom;
  print(world, dom === undefined ? 'No domain parameter given' : 'No multiple domain parameters allowed');
  throw new Exit(1, { usage: true });
}

const MAC_PARTS = 6;

/** Whether an interface is named by its address. */
export const isMac = (devid: string): boolean => devid.split(':').length === MAC_PARTS;

export const noSuchDevice = (devid: string, dom: string): OptionError =>
  wrongArguments(`Cannot find device '${devid}' in domain '${dom}'`);
