/** xm start. */
import { CommandFailed, OptionError } from '../errors.ts';
import { getopt } from '../getopt.ts';
import type { Run } from './command.ts';
import { attachConsole, domidOf } from './console.ts';

export const start: Run = async (context, args) => {
  const { options, words } = getopt(args, [
    { name: 'paused', short: 'p', long: 'paused' },
    { name: 'console', short: 'c', long: 'console_autoconnect' },
    { name: 'viewer', long: 'vncviewer' },
    { name: 'viewer', long: 'vncviewer-autopass' },
  ]);
  const [dom] = words;
  if (dom === undefined || words.length > 1) throw new OptionError('Expects 1 argument');
  const given = new Set(options.map(([name]) => name));
  if (given.has('viewer')) throw new CommandFailed('--vncviewer is not supported in this version');
  await context.server.call('xend.domain.start', dom, given.has('paused'));
  const domid = await domidOf(context, dom);
  if (domid === undefined) throw new CommandFailed(`Domain '${dom}' is not started`);
  return given.has('console') ? attachConsole(context, domid) : undefined;
};
