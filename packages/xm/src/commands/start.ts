/** xm start. */
import { getopt, wrongArguments } from '../getopt.ts';
import { withProgress } from '../progress.ts';
import type { Run } from './command.ts';
import { attachConsole, domidOf, notStarted } from './console.ts';

export const start: Run = async (context, args) => {
  const { options, words } = getopt(args, [
    { name: 'paused', short: 'p', long: 'paused' },
    { name: 'console', short: 'c', long: 'console_autoconnect' },
    { name: 'viewer', long: 'vncviewer' },
    { name: 'autopass', long: 'vncviewer-autopass' },
  ]);
  const [dom] = words;
  if (dom === undefined || words.length > 1) throw wrongArguments('Expects 1 argument');
  const given = new Set(options.map(([name]) => name));
  const { world, server, api } = context;
  await withProgress(world, `Starting ${dom}`, {}, async () =>
    api
      ? api.call('VM.start', await api.vm(dom), given.has('paused'))
      : server.call('xend.domain.start', dom, given.has('paused')),
  );
  const domid = await domidOf(context, dom);
  if (domid === undefined) throw notStarted(context, dom);
  if (given.has('viewer') || given.has('autopass')) {
    const { runViewer } = await import('./vncviewer.ts');
    await runViewer(context, dom, { autopass: given.has('autopass'), detached: true });
  }
  return given.has('console') ? attachConsole(context, domid) : undefined;
};
