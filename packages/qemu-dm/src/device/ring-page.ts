/** Where a frontend's shared page and event channel are, by what it has written into its directory. */
import { domid as domidOf, evtchnPort, grantRef } from '@xenhost/base';
import type { EvtchnPort } from '@xenhost/base';
import type { PrivcmdPort, RemotePage } from '@xenhost/privcmd';
import { FrontendFault, type FrontendNodes } from './split-device.ts';

export interface RingPage {
  readonly page: RemotePage;
  /** Domain-0's end of the event channel. */
  readonly port: EvtchnPort;
}

/** Binds the event channel. Throws FrontendFault. */
export async function openRingPage(
  domid: number,
  frontend: FrontendNodes,
  privcmd: Pick<PrivcmdPort, 'bindInterdomain'>,
): Promise<RingPage> {
  const [gref, ref, channel] = await Promise.all(
    ['page-gref', 'page-ref', 'event-channel'].map((key) => frontend.readNumber(key)),
  );
  if (channel === undefined) throw new FrontendFault('no event-channel');
  let page: RemotePage;
  if (gref !== undefined) page = { space: 'grant', domid: domidOf(domid), gref: grantRef(gref) };
  else if (ref !== undefined) page = { space: 'foreign', domid: domidOf(domid), gfn: ref };
  else throw new FrontendFault('neither page-gref nor page-ref');
  try {
    return { page, port: await privcmd.bindInterdomain(domidOf(domid), evtchnPort(channel)) };
  } catch (error) {
    throw new FrontendFault(`event-channel ${channel} cannot be bound`, { cause: error });
  }
}
