/**
 * xm vncviewer, and the viewer that create and start open. Where Xen 4.4's xm reads the port in xenstore, ours asks xend:
 * xm speaks with nothing else. The domain's vfb (or an HVM image's own VNC) tells host, display and password.
 */
import { atomNumber, atomText, childOf, childValue, childrenOf, type Sxp } from '@xenhost/sxp';
import { CommandFailed } from '../errors.ts';
import { getopt } from '../getopt.ts';
import { print } from '../world.ts';
import type { CommandContext, Run } from './command.ts';
import { domidOf, notStarted } from './console.ts';
import { asSxp } from './domain-rows.ts';
import { refused } from './words.ts';

export const vncviewer: Run = async (context, args) => {
  const { options, words } = getopt(args, [
    { name: 'autopass', long: 'autopass' },
    { name: 'autopass', long: 'vncviewer-autopass' },
  ]);
  const [dom] = words;
  if (dom === undefined || words.length > 1) {
    throw refused(context.world, 'No domain given (or several parameters specified)');
  }
  if ((await domidOf(context, dom)) === undefined) throw notStarted(context, dom);
  return runViewer(context, dom, { autopass: options.length > 0, detached: false });
};

/** How long a domain's VNC server may take to come up, in seconds. */
const PATIENCE_S = 10;
const FIRST_PORT = 5900;

interface VncServer {
  readonly host: string;
  readonly display: number;
  readonly password: string | undefined;
}

/** Starts the viewer; resolves to its exit code, or to 0 at once when it is left behind. */
export async function runViewer(
  context: CommandContext,
  dom: string,
  { autopass, detached }: { readonly autopass: boolean; readonly detached: boolean },
): Promise<number> {
  const { world } = context;
  const server = await vncServerOf(context, dom);
  if (!server) throw new CommandFailed(`Domain '${dom}' has no VNC server`);
  const password = autopass ? server.password : undefined;
  const words = [...(password === undefined ? [] : ['-autopass']), `${server.host}:${server.display}`];
  if (!detached) print(world, `invoking  vncviewer ${words.join(' ')}`);
  try {
    return await world.run('vncviewer', words, {
      detached,
      ...(password === undefined ? {} : { input: `${password}\n` }),
    });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    throw new CommandFailed('external vncviewer missing or not in the path');
  }
}

async function vncServerOf(context: CommandContext, dom: string): Promise<VncServer | undefined> {
  const { world, server } = context;
  for (let second = 0; ; second += 1) {
    const found = vncServerIn(asSxp(await server.call('xend.domain', dom, true)));
    if (found || second === PATIENCE_S) return found;
    await world.sleep(1000);
  }
}

/** `(location HOST:PORT)` of the vfb says where its server is. */
function vncServerIn(domain: Sxp): VncServer | undefined {
  for (const device of childrenOf(domain, 'device')) {
    const vfb = childOf(device, 'vfb');
    const location = /^(.*):(\d{1,5})$/.exec(atomText(childValue(vfb, 'location')) ?? '');
    const display = atomNumber(childValue(vfb, 'vncdisplay'));
    if (location) {
      return {
        host: location[1] ?? '',
        display: Number(location[2]) - FIRST_PORT,
        password: atomText(childValue(vfb, 'vncpasswd')),
      };
    }
    if (display !== undefined) {
      const host = atomText(childValue(vfb, 'vnclisten')) ?? 'localhost';
      return { host, display, password: atomText(childValue(vfb, 'vncpasswd')) };
    }
  }
  return undefined;
}
