/** xm shell: one command after another over one connection (Xen 4.4 `main.py`, Shell). */
import { createInterface, type Interface } from 'node:readline';
import { Writable } from 'node:stream';
import { atomText } from '@xenhost/sxp';
import { print, type World } from '../world.ts';
import { sxpOf } from '../xen-api/values.ts';
import type { Command, CommandContext, Run } from './command.ts';
import { asSxpList, sxpJson } from './domain-rows.ts';
import { longOptions, takesDomain } from './completion.ts';

const PROMPT = 'xm> ';
const BANNER = 'The Xen Master. Type "help" for a list of functions.';
/** Ours: without them only the end of the input ends the shell. */
const ENDS: readonly string[] = ['exit', 'quit'];

export const shell: Run = async (context) => {
  const { world } = context;
  print(world, BANNER);
  const reader = lineReader(context);
  world.out(PROMPT);
  let ended = false;
  for await (const line of reader) {
    ended = !(await obey(context, reader, line.trim()));
    if (ended) break;
    world.out(PROMPT);
  }
  reader.close();
  if (!ended) print(world);
  return undefined;
};

function lineReader(context: CommandContext): Interface {
  const { world } = context;
  const terminal = world.terminal();
  const output = new Writable({
    write(chunk: Buffer, _encoding, done) {
      world.out(chunk.toString());
      done();
    },
  });
  const interactive = terminal !== undefined && world.stdin.isTTY === true;
  const reader = createInterface({
    input: world.stdin,
    ...(interactive ? { output: Object.assign(output, terminal) } : {}),
    terminal: interactive,
    prompt: PROMPT,
    completer: (line: string, done: (error: Error | null, result: [string[], string]) => void) => {
      void completions(context, line).then((found) => {
        done(null, found);
      });
    },
  });
  // A line that is being typed is dropped; the shell goes on.
  reader.on('SIGINT', () => {
    world.out(`\n${PROMPT}`);
    reader.write(null, { ctrl: true, name: 'u' });
  });
  return reader;
}

/** False when the shell is to end. */
async function obey(context: CommandContext, reader: Interface, line: string): Promise<boolean> {
  const { world } = context;
  const words = splitWords(line.startsWith('?') ? `help ${line.slice(1)}` : line);
  if (!words) {
    print(world, '*** No closing quotation');
    return true;
  }
  const [name, ...args] = words[0] === 'xm' ? words.slice(1) : words;
  if (name === undefined) return true;
  if (ENDS.includes(name) && args.length === 0) return false;
  // The name of the end of the input is a command of Python's cmd module.
  if (name === 'EOF') {
    print(world, '');
    return false;
  }
  if (name === 'help') {
    world.out(await helpFor(context, args[0], words[0] === 'xm'));
    return true;
  }
  const command = context.xm.find(name, world);
  if (command) await runInside(context, reader, command, args);
  else if (context.api) await callApi(context, name, args);
  else print(world, `*** Unknown command: ${name}`);
  return true;
}

async function helpFor({ world, xm }: CommandContext, name: string | undefined, long: boolean): Promise<string> {
  if (name === undefined) return long ? xm.longHelp() : xm.shortHelp();
  const command = xm.find(name, world);
  return command ? xm.usageOf(command) : xm.shortHelp();
}

async function runInside(context: CommandContext, reader: Interface, command: Command, args: string[]): Promise<void> {
  const { world, xm } = context;
  const interrupt = new AbortController();
  const stop = (): void => {
    interrupt.abort();
  };
  reader.prependListener('SIGINT', stop);
  // Input that is no terminal may have ended already.
  if (reader.terminal) reader.pause();
  const inner: World = {
    ...world,
    signal: AbortSignal.any([world.signal, interrupt.signal]),
    become: (module, words) => {
      reader.close();
      return world.become(module, words);
    },
  };
  try {
    if (args.includes('--help') || args.includes('-h')) world.out(await xm.usageOf(command));
    else await xm.run(command, args, inner, context);
  } finally {
    reader.removeListener('SIGINT', stop);
    if (reader.terminal) reader.resume();
  }
}

/** With the Xen-API a word that is no command is a method. */
async function callApi({ world, api }: CommandContext, method: string, args: readonly string[]): Promise<void> {
  try {
    const value = await api?.call(method, ...args);
    if (value !== undefined && value !== null && value !== '') {
      print(world, JSON.stringify(sxpJson(sxpOf(value)), null, 2));
    }
  } catch (error) {
    print(world, `*** ${(error as Error).message}`);
  }
}

/** Words of a line as a POSIX shell quotes them; undefined when a quotation has no end. */
export function splitWords(line: string): string[] | undefined {
  const words: string[] = [];
  const part = /([^\s'"\\]+)|'([^']*)'|"((?:[^"\\]|\\[\s\S])*)"|\\([\s\S])|(\s+)/y;
  let word: string | undefined;
  while (part.lastIndex < line.length) {
    const match = part.exec(line);
    if (!match) return undefined;
    const [, bare, single, double, escaped, space] = match;
    if (space === undefined) {
      word = (word ?? '') + (bare ?? single ?? double?.replace(/\\(["\\])/g, '$1') ?? escaped ?? '');
    } else if (word !== undefined) {
      words.push(word);
      word = undefined;
    }
  }
  return word === undefined ? words : [...words, word];
}

/** What the TAB key offers: commands, then domains for the commands that take one. */
async function completions({ server, api, xm }: CommandContext, line: string): Promise<[string[], string]> {
  const words = line.split(/\s+/);
  const last = words.at(-1) ?? '';
  const among = (names: readonly string[]): [string[], string] => [
    names.filter((name) => name.startsWith(last)).map((name) => `${name} `),
    last,
  ];
  if (words.length <= 1) return among([...xm.commands.map((command) => command.name), 'help', ...ENDS]);
  const command = xm.commands.find((row) => row.name === words[0]);
  if (last.startsWith('-')) return among(command ? longOptions(command) : []);
  if (!command || !takesDomain(command) || api) return [[], last];
  try {
    return among(asSxpList(await server.call('xend.domains', 0)).map((name) => atomText(name) ?? ''));
  } catch {
    return [[], last];
  }
}
