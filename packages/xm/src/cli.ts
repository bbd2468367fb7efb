/**
 * xm from its arguments to its exit code: finds the command, runs it, and turns every way in which it can end into the
 * text and code that Xen 4.4's `xm` has for it. Nothing is thrown past `runXm`.
 */
import type { XmlRpcError, XmlRpcFault } from '@xenhost/xmlrpc-codec';
import type { Command, Session, Xm } from './commands/command.ts';
import { longHelp, shortHelp, usage } from './commands/help.ts';
import { aliases, commands } from './commands/table.ts';
import {
  CommandFailed,
  ConnectionError,
  Exit,
  InvalidArgument,
  OptionError,
  ProtocolError,
  type XenApiFailure,
} from './errors.ts';
import { wrap } from './text.ts';
import { print, printError, type World } from './world.ts';

/** Fault code and exit code of a domain that does not exist. */
const INVALID_DOMAIN = 3;
/** A failure of the Xen-API is broken into lines of this width. */
const FAILURE_WIDTH = 80;

export async function runXm(argv: readonly string[], world: World): Promise<number> {
  const [name, ...args] = argv;
  if (name === undefined) {
    world.out(shortHelp());
    return 1;
  }
  if (name === '--help' || name === '-h' || name === 'help') {
    world.out(longHelp());
    return 0;
  }
  const command = findCommand(name, world);
  if (args.includes('--help') || args.includes('-h')) {
    world.out(command ? await usageOf(command) : shortHelp());
    return 1;
  }
  if (!command) {
    printError(world, `Subcommand ${name} not found!`);
    world.out(shortHelp());
    return 1;
  }
  return runReported(command, args, world);
}

/** By name, by old name, or by the beginning of exactly one. */
function findCommand(name: string, world: World): Command | undefined {
  const exact = commands.find((command) => command.name === name);
  if (exact) return exact;
  const current = Object.hasOwn(aliases, name) ? aliases[name] : undefined;
  if (current !== undefined) {
    world.err(`Command ${name} is deprecated.  Please use xm ${current} instead.\n`);
    return commands.find((command) => command.name === current);
  }
  const matches = name.length > 1 ? commands.filter((row) => !row.own && row.name.startsWith(name)) : [];
  return matches.length === 1 ? matches[0] : undefined;
}

/** Runs a command; whatever happens is told. `session` has it use a connection that is open already. */
async function runReported(
  command: Command,
  args: readonly string[],
  world: World,
  session?: Session,
): Promise<number> {
  try {
    return await runCommand(command, args, world, session);
  } catch (error) {
    return report(command, error, world);
  }
}

async function runCommand(
  command: Command,
  given: readonly string[],
  world: World,
  session: Session | undefined,
): Promise<number> {
  const json = command.json === true && given.includes('--json');
  const args = json ? given.filter((arg) => arg !== '--json') : given;
  if (command.serverFirst !== true) checkCount(command, args, world);
  const [run, { connect }] = await Promise.all([command.load(), import('./server/connect.ts')]);
  const connection = session ? undefined : await connect(world);
  const context = session ?? connection;
  if (!context) return 1;
  try {
    requireServer(command, context.api !== undefined);
    if (command.serverFirst === true) checkCount(command, args, world);
    return (await run({ world, server: context.server, api: context.api, json, xm }, args)) ?? 0;
  } finally {
    await connection?.close();
  }
}

const xm: Xm = { commands, aliases, find: findCommand, run: runReported, usageOf, shortHelp, longHelp };

function requireServer(command: Command, isXenApi: boolean): void {
  if (isXenApi && command.api === undefined && !command.own) {
    throw new CommandFailed('This function is not supported by Xen-API');
  }
  if (!isXenApi && command.api === 'only') throw new CommandFailed('This function is only supported by Xen-API');
}

function checkCount(command: Command, args: readonly string[], world: World): void {
  if (!command.count) return;
  const [min, max] = command.count;
  const given = args.filter((arg) => arg !== '--').length;
  if (given >= min && given <= max) return;
  printError(
    world,
    min === max
      ? `'xm ${command.name}' requires ${min} arguments.\n`
      : `'xm ${command.name}' requires between ${min} and ${max} arguments.\n`,
  );
  throw new Exit(1, { usage: true });
}

async function usageOf(command: Command): Promise<string> {
  return usage(command, (await command.more?.()) ?? '');
}

async function report(command: Command, error: unknown, world: World): Promise<number> {
  const withUsage = async (text: string, after?: string): Promise<number> => {
    printError(world, text);
    world.out(await usageOf(command));
    if (after !== undefined) print(world, after);
    return 1;
  };
  if (world.signal.aborted) {
    print(world, 'Interrupted.');
    world.err('\n');
    return 1;
  }
  if (error instanceof Exit) {
    if (error.usage) world.out(await usageOf(command));
    return error.code;
  }
  if (isNamed<XmlRpcFault>(error, 'XmlRpcFault')) {
    if (error.faultCode !== INVALID_DOMAIN) return withUsage(error.faultString);
    printError(world, `Domain '${error.faultString}' does not exist.`);
    return INVALID_DOMAIN;
  }
  if (error instanceof OptionError) return withUsage(error.message, error.after);
  if (error instanceof InvalidArgument) return withUsage(error.message);
  if (isNamed<XenApiFailure>(error, 'XenApiFailure')) {
    const { failureText, isKnown } = await import('./xen-api/session.ts');
    if (!isKnown(error)) world.err(`'${error.details[0] ?? ''}'\n`);
    for (const line of ['', ...wrap(failureText(error), FAILURE_WIDTH), '']) world.err(`${line}\n`);
  } else if (error instanceof CommandFailed) printError(world, error.message);
  else if (error instanceof ConnectionError) printError(world, connectionText(error, world));
  else if (error instanceof ProtocolError) world.err(`${protocolText(error)}\n`);
  else if (isNamed<XmlRpcError>(error, 'XmlRpcError')) printError(world, `Cannot understand xend: ${error.message}`);
  else
    printError(world, `Unexpected error: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
  return 1;
}

/** By name, so that help and mistakes need not load the codec. */
const isNamed = <T extends Error>(error: unknown, name: T['name']): error is T =>
  error instanceof Error && error.name === name;

const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'Connection refused',
  ENOENT: 'No such file or directory',
  ETIMEDOUT: 'Connection timed out',
  EHOSTUNREACH: 'No route to host',
  ENOTFOUND: 'Name or service not known',
  EACCES: 'Permission denied',
  EPERM: 'Operation not permitted',
};

/** Our host needs no root: only who was refused for lack of rights is told to become it. */
function connectionText(error: ConnectionError, world: World): string {
  if (!world.isRoot && (error.code === 'EACCES' || error.code === 'EPERM')) {
    return 'Most commands need root access. Please try again as root.';
  }
  return `Unable to connect to xend: ${REASONS[error.code] ?? error.code}. Is xend running?`;
}

function protocolText(error: ProtocolError): string {
  return error.status === undefined
    ? 'Xend has probably crashed!  Invalid or missing HTTP status code.'
    : `Xend has probably crashed!  ProtocolError(${error.status}, ${error.message}).`;
}
