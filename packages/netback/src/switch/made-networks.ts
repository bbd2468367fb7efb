/**
 * Networks beside those of network.sxp: xend's Xen-API makes them by name (`network.create`) and lists them in xenstore, below
 * /tool/netback/networks, one node each with the name as its value. In the other direction the bridges of network.sxp are told
 * below /tool/netback/bridges in the same way.
 */
import type { Logger } from '@xenhost/daemon-kit';
import type { XenstoreClient } from '@xenhost/xenstore-client';

const NETWORKS = '/tool/netback/networks';
const BRIDGES = '/tool/netback/bridges';

/** What follows the list. */
export interface MadeNetworks {
  /** The whole list, each time that it changes. */
  setMade(names: readonly string[]): void;
}

/** Resolves when the first list has been set and what is configured has been told. Rejects with XenstoreError. */
export async function followMadeNetworks(
  configured: readonly string[],
  modules: { readonly xenstore: XenstoreClient; readonly networks: MadeNetworks; readonly log: Logger },
  signal: AbortSignal,
): Promise<void> {
  const { xenstore, networks, log } = modules;
  await xenstore.transaction(async (t) => {
    await t.mkdir(NETWORKS);
    if (await t.exists(BRIDGES)) await t.rm(BRIDGES);
    for (const [index, name] of configured.entries()) await t.write(`${BRIDGES}/${index}`, name);
  });
  networks.setMade(await listed(xenstore));
  const follow = async (): Promise<void> => {
    const changes = xenstore.watch(NETWORKS, { signal });
    for await (const change of changes) {
      log.debug({ path: change.path }, 'networks');
      networks.setMade(await listed(xenstore));
    }
  };
  follow().catch((error: unknown) => {
    if (!signal.aborted) log.warn({ err: error }, 'networks of the Xen-API are not followed');
  });
}

async function listed(xenstore: XenstoreClient): Promise<string[]> {
  const nodes = await xenstore.tryDirectory(NETWORKS);
  const names = await Promise.all(nodes.map((node) => xenstore.tryRead(`${NETWORKS}/${node}`)));
  return names.filter((name) => name !== undefined && name !== '') as string[];
}
