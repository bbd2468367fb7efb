/** Where a domain's console can be attached to: `console/tty` in xenstore, written by xenconsoled. */
import type { XenstoreClient } from '@xenhost/xenstore-client';

/** How long a console may take to appear after its domain (the domain is being created). */
const TTY_WAIT_MS = 5000;

/** A message for people; the program ends with status 1. */
export class ConsoleError extends Error {
  override readonly name = 'ConsoleError';
}

/**
 * The path of the socket; waits a moment for it to appear. `num` 0 is the primary console. Rejects with ConsoleError when there
 * is no such domain or the console does not come.
 */
export async function findTty(
  xenstore: XenstoreClient,
  domid: number,
  num: number,
  waitMs = TTY_WAIT_MS,
): Promise<string> {
  const base = await xenstore.getDomainPath(domid);
  if (domid === 0) throw new ConsoleError('Domain-0 has no console of its own: it is this host');
  if (!(await xenstore.exists(base))) throw new ConsoleError(`Domain ${domid} does not exist`);
  const path = num === 0 ? `${base}/console/tty` : `${base}/device/console/${num}/tty`;
  const signal = AbortSignal.timeout(waitMs);
  const watch = xenstore.watch(path, { signal });
  while (!(await watch.next()).done) {
    const tty = await xenstore.tryRead(path);
    if (tty === undefined || tty === '') continue;
    await watch.return();
    return tty;
  }
  throw new ConsoleError(
    `Could not read tty from store: ${path} did not appear within ${waitMs / 1000} s. Is xenconsoled running?`,
  );
}
