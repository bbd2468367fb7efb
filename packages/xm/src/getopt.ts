/** Options as GNU getopt takes them: anywhere between the words, long ones by any unique beginning; Python's messages. */
import { OptionError } from './errors.ts';

export interface OptionSpec {
  /** The name that the result uses. */
  readonly name: string;
  readonly short?: string;
  /** Without dashes. */
  readonly long?: string;
  readonly takesValue?: boolean;
}

export interface ParsedOptions {
  /** In the order given; a flag's value is ''. */
  readonly options: readonly (readonly [string, string])[];
  readonly words: readonly string[];
}

/** Wrong words, found by a command itself: after the usage comes an empty line. */
export const wrongArguments = (message: string): OptionError => new OptionError(message, { after: '' });

/** Throws OptionError. */
export function getopt(args: readonly string[], specs: readonly OptionSpec[]): ParsedOptions {
  const options: [string, string][] = [];
  const words: string[] = [];
  const rest = [...args];
  for (let arg = rest.shift(); arg !== undefined; arg = rest.shift()) {
    if (arg === '--') {
      words.push(...rest);
      break;
    }
    if (arg.startsWith('--')) options.push(longOption(arg.slice(2), specs, rest));
    else if (arg.startsWith('-') && arg.length > 1) options.push(...shortOptions(arg.slice(1), specs, rest));
    else words.push(arg);
  }
  return { options, words };
}

/** The same, but the first word that is no option ends them: plain getopt. Throws OptionError. */
export function getoptStrict(args: readonly string[], specs: readonly OptionSpec[]): ParsedOptions {
  let end = 0;
  while (end < args.length) {
    const arg = args[end] ?? '';
    if (arg === '--' || !arg.startsWith('-') || arg === '-') break;
    const bare = arg.startsWith('--') ? specs.find((spec) => spec.long === arg.slice(2)) : lastShort(arg, specs);
    end += bare?.takesValue ? 2 : 1;
  }
  const { options } = getopt(args.slice(0, end), specs);
  return { options, words: args.slice(args[end] === '--' ? end + 1 : end) };
}

/** The option whose value is the next word: the last letter, where no value follows it in the same word. */
function lastShort(arg: string, specs: readonly OptionSpec[]): OptionSpec | undefined {
  const takers = Array.from(arg.slice(1)).map((letter) => specs.find((spec) => spec.short === letter));
  const first = takers.findIndex((spec) => spec?.takesValue);
  return first >= 0 && first === takers.length - 1 ? takers[first] : undefined;
}

function longOption(text: string, specs: readonly OptionSpec[], rest: string[]): [string, string] {
  const equals = text.indexOf('=');
  const given = equals < 0 ? text : text.slice(0, equals);
  const exact = specs.filter((spec) => spec.long === given);
  const matches = exact.length > 0 ? exact : specs.filter((spec) => spec.long?.startsWith(given));
  const [spec] = matches;
  if (!spec) throw new OptionError(`option --${given} not recognized`);
  if (matches.length > 1) throw new OptionError(`option --${given} not a unique prefix`);
  const long = spec.long ?? given;
  if (!spec.takesValue) {
    if (equals >= 0) throw new OptionError(`option --${long} must not have an argument`);
    return [spec.name, ''];
  }
  const value = equals < 0 ? rest.shift() : text.slice(equals + 1);
  if (value === undefined) throw new OptionError(`option --${long} requires argument`);
  return [spec.name, value];
}

function shortOptions(text: string, specs: readonly OptionSpec[], rest: string[]): [string, string][] {
  const options: [string, string][] = [];
  for (let at = 0; at < text.length; at += 1) {
    const letter = text.charAt(at);
    const spec = specs.find((candidate) => candidate.short === letter);
    if (!spec) throw new OptionError(`option -${letter} not recognized`);
    if (!spec.takesValue) {
      options.push([spec.name, '']);
      continue;
    }
    const value = at + 1 < text.length ? text.slice(at + 1) : rest.shift();
    if (value === undefined) throw new OptionError(`option -${letter} requires argument`);
    options.push([spec.name, value]);
    break;
  }
  return options;
}
